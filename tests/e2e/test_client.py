"""Both clients against the whole service, whose jobs only act."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from intrafusion.api import Event, Job, JobRequest
from intrafusion.client import AsyncClient, Client
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.spec import Architecture
from tests.e2e.conftest import Server
from tests.service.conftest import DATASET, MODEL


def request(model: str, act: str, argument: str = "") -> JobRequest:
    return JobRequest(
        model=model,
        input_shapes=[[1, 3]],
        architecture=Architecture(name="play"),
        metadata={"act": act, "with": argument},
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    path.write_bytes(MODEL)
    return path


def test_from_upload_to_deletion(stage: Server, model: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    samples.write_bytes(DATASET)
    told: list[Event] = []
    with Client(str(stage.http.base_url)) as client:
        uploaded = client.upload_model(model)
        assert client.upload_model(model).id == uploaded.id
        dataset = client.upload_dataset(samples)
        job = client.submit(request(uploaded.id, "sleep", "1"))
        done = client.wait(job.id, on_event=told.append)
        assert done.status == "succeeded"
        assert [event.id for event in told] == list(range(1, len(told) + 1))
        assert told[-1].data["status"] == "succeeded"
        small = client.download(job.id, "model.pt", tmp_path / "small.pt")
        assert small.read_bytes() == b"small"
        again = client.retry(job.id)
        assert client.cancel(again.id).status in {"cancelled", "cancelling"}
        assert client.wait(again.id).status == "cancelled"
        cancelled = client.jobs(metadata={"act": "sleep"}, status="cancelled")
        assert next(cancelled).id == again.id
        for ended in (job, again):
            client.delete(ended.id)
        with pytest.raises(IntraFusionError) as refusal:
            client.job(job.id)
        assert refusal.value.code is ErrorCode.NOT_FOUND
        client.delete_dataset(dataset.id)
        assert dataset.id not in [entry.id for entry in client.datasets()]


def test_many_jobs_are_waited_for_at_once(stage: Server, model: Path) -> None:
    async def run() -> list[Job]:
        async with AsyncClient(str(stage.http.base_url)) as client:
            uploaded = await client.upload_model(model)
            jobs = [
                await client.submit(request(uploaded.id, "succeed", str(number)))
                for number in range(3)
            ]
            return await asyncio.gather(
                *(client.wait(job.id, timeout=90, on_event=lambda _: None) for job in jobs)
            )

    assert [job.status for job in asyncio.run(run())] == ["succeeded"] * 3
