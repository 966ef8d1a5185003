"""Several hosts, as docs/deploy.md has them: processes that share three addresses and no folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from intrafusion.api import JobRequest
from intrafusion.client import Client
from intrafusion.spec import Architecture
from service.redis_server import own_redis
from tests.e2e.conftest import COMMAND, wait_for
from tests.servers import new_database, start_redis
from tests.service.conftest import MODEL


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


@pytest.fixture
def hosts(tmp_path: Path, postgres: str, object_store: dict[str, str]) -> Iterator[list[str]]:
    """Two API hosts and a worker on PostgreSQL, S3 and Redis: a key and the APIs' addresses."""
    queue = tmp_path / "queue"
    queue.mkdir()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("INTRAFUSION_")},
        **object_store,
        "DATABASE_URL": new_database(postgres, f"test_{uuid.uuid4().hex}"),
        "REDIS_URL": own_redis(queue).url,
        "BLOB_URL": f"s3://bucket/{tmp_path.name}",
        "INTRAFUSION_JOB_MODULE": "tests.worker.play",
        "INTRAFUSION_SANDBOX": "off",
        "INTRAFUSION_JOB_PATHS": str(Path(__file__).parents[2]),
    }
    key = subprocess.run(
        [COMMAND, "keys", "create", "ci"],
        env=environment | {"INTRAFUSION_HOME": str(tmp_path / "operator")},
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
            processes.enter_context(running(command, tmp_path / name, environment))
            addresses.append(f"http://127.0.0.1:{port}")
        processes.enter_context(running(["worker"], tmp_path / "worker", environment))
        for address in addresses:
            wait_for(lambda url=address: _ready(url))
        yield [key, *addresses]


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_what_one_host_takes_another_tells_of(hosts: list[str], tmp_path: Path) -> None:
    key, *addresses = hosts
    path = tmp_path / "net.safetensors"
    path.write_bytes(MODEL)
    with Client(addresses[0], api_key=key) as first, Client(addresses[1], api_key=key) as second:
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
        assert not (tmp_path / name / "blobs").exists()
        assert not (tmp_path / name / "intrafusion.db").exists()
