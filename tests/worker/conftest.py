"""Jobs in a real database, run by a real supervisor; the job process is tests.worker.play."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from intrafusion.api import Job, JobRequest
from intrafusion.spec import Architecture
from service.ids import new_id
from service.jobs import get_job
from service.settings import MiB, Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.events import list_events
from service.store.records import DEFAULT_TENANT, EventRecord, ModelRecord
from service.store.uploads import add_upload
from service.submission import submit_job
from worker.run import run_delivered

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A quick supervisor without sandbox."""
    return Settings(
        home=tmp_path / "home",
        job_module="tests.worker.play",
        sandbox="off",
        job_paths=[REPOSITORY],
        poll_seconds=0.05,
        lease_seconds=5,
        job_memory_bytes=400 * MiB,
    )


@pytest.fixture
def submit(database: Database, blobs: Blobs) -> Callable[..., str]:
    """Submits a job that acts; returns its id."""

    def submit(act: str, argument: str = "") -> str:
        blob = blobs.adopt(io.BytesIO(b"a network"))
        with database.write() as session:
            model, _ = add_upload(
                session,
                ModelRecord,
                tenant=DEFAULT_TENANT,
                id=new_id("model"),
                sha256=blob.sha256,
                bytes=blob.bytes,
                kind="safetensors",
                name=None,
            )
        request = JobRequest(
            model=model.id,
            input_shapes=[[1, 3]],
            architecture=Architecture(name="play"),
            metadata={"act": act, "with": argument},
        )
        return submit_job(
            database=database,
            tenant=DEFAULT_TENANT,
            request=request,
            idempotency_key=None,
            idempotency_hours=1,
        ).job.id

    return submit


@pytest.fixture
def run(
    settings: Settings, database: Database, blobs: Blobs, submit: Callable[..., str]
) -> Callable[..., Job]:
    """Submits a job that acts, runs it to its end here, and returns it."""

    def run(act: str, argument: str = "", **changes: object) -> Job:
        job = submit(act, argument)
        run_delivered(
            job,
            settings=settings.model_copy(update=changes),
            database=database,
            blobs=blobs,
            worker="w",
        )
        return get_job(database=database, tenant=DEFAULT_TENANT, id=job)

    return run


def events_of(database: Database, job: str) -> list[EventRecord]:
    """All events of a job."""
    with database.read() as session:
        return list(list_events(session, job_id=job, after=0, limit=10_000))


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
