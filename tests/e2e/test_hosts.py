"""Several hosts, as docs/deploy.md has them: processes that share three addresses and no folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from intrafusion.api import JobRequest, Model
from intrafusion.client import AsyncClient, Client
from intrafusion.client.uploading import LARGE
from intrafusion.spec import Architecture
from service.redis_server import own_redis
from tests.breaking import breaking
from tests.e2e.conftest import COMMAND, wait_for
from tests.servers import new_database, start_redis
from tests.service.conftest import MODEL, safetensors


@contextmanager
def running(command: list[str], home: Path, environment: dict[str, str]) -> Iterator[None]:
    """A process of one host, whose state lies in `home`; it is told to stop at the end."""
    home.mkdir()
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment | {"INTRAFUSION_HOME": str(home)},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(40) in (0, -15), (home / "log").read_text()[-2000:]


@dataclass(frozen=True)
class Hosts:
    """Two API hosts and a worker: where each keeps its own, their addresses, and a key."""

    folder: Path
    addresses: list[str]
    key: str


@pytest.fixture(scope="module")
def hosts(
    tmp_path_factory: pytest.TempPathFactory, postgres: str, object_store: dict[str, str]
) -> Iterator[Hosts]:
    """Hosts that share PostgreSQL, S3 and Redis."""
    folder = tmp_path_factory.mktemp("hosts")
    queue = folder / "queue"
    queue.mkdir()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("INTRAFUSION_")},
        **object_store,
        "DATABASE_URL": new_database(postgres, f"test_{uuid.uuid4().hex}"),
        "REDIS_URL": own_redis(queue).url,
        "BLOB_URL": f"s3://bucket/{folder.name}",
        "INTRAFUSION_JOB_MODULE": "tests.worker.play",
        "INTRAFUSION_SANDBOX": "off",
        "INTRAFUSION_JOB_PATHS": str(Path(__file__).parents[2]),
    }
    key = subprocess.run(
        [COMMAND, "keys", "create", "ci"],
        env=environment | {"INTRAFUSION_HOME": str(folder / "operator")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    redis = start_redis(queue)
    with ExitStack() as processes:
        processes.callback(redis.stop)
        addresses = []
        for name in ("first", "second"):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = str(free.getsockname()[1])
            command = ["uvicorn", "--factory", "service.main:create_app", "--port", port]
            processes.enter_context(running(command, folder / name, environment))
            addresses.append(f"http://127.0.0.1:{port}")
        processes.enter_context(running(["worker"], folder / "worker", environment))
        for address in addresses:
            wait_for(lambda url=address: _ready(url))
        yield Hosts(folder, addresses, key)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_what_one_host_takes_another_tells_of(hosts: Hosts, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(MODEL)
    here, there = hosts.addresses
    with Client(here, api_key=hosts.key) as first, Client(there, api_key=hosts.key) as second:
        model = first.upload_model(path)
        assert second.upload_model(path) == model
        request = JobRequest(
            model=model.id,
            input_shapes=[[1, 3]],
            architecture=Architecture(name="play"),
            metadata={"act": "succeed"},
        )
        job = second.submit(request, idempotency_key="once")
        assert first.submit(request, idempotency_key="once").id == job.id
        told: list[int] = []
        done = first.wait(job.id, timeout=60, on_event=lambda event: told.append(event.id))
        assert done.status == "succeeded"
        assert told == list(range(1, len(told) + 1))
        for name, client in (("model.pt", first), ("report.html", second)):
            assert client.download(job.id, name, tmp_path / name).stat().st_size > 0
        assert (tmp_path / "model.pt").read_bytes() == b"small"
        second.delete(job.id)
        assert list(first.jobs()) == []
    for name in ("first", "second", "worker"):
        assert not (hosts.folder / name / "blobs").exists()
        assert not (hosts.folder / name / "intrafusion.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_large_upload_goes_on_at_another_host(hosts: Hosts, tmp_path: Path, kind: str) -> None:
    content = safetensors(weight=[random.Random(kind).random()] * (LARGE // 4))
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    passed: list[int] = []
    with breaking(hosts.addresses, passed, *[LARGE // 3] * 2) as url:
        if kind == "sync":
            with Client(url, api_key=hosts.key) as client:
                model = client.upload_model(path)
        else:
            model = asyncio.run(_upload(url, hosts.key, path))
    assert model.sha256 == hashlib.sha256(content).hexdigest()
    assert len(passed) >= 3  # connections, by turns to one host and the other
    assert sum(passed) < 1.4 * len(content)  # from the beginning each time it would be 1.67
    for name in ("first", "second"):
        kept = [path for path in (hosts.folder / name).rglob("*") if path.is_file()]
        assert [path.name for path in kept] == ["log"]


async def _upload(url: str, key: str, path: Path) -> Model:
    async with AsyncClient(url, api_key=key) as client:
        return await client.upload_model(path)
