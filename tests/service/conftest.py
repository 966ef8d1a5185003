"""A real application over a real SQLite file and blob folder, and files to send it."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient

from service.main import create_app
from service.settings import Settings
from service.store import jobs
from service.store.database import Database
from tests.servers import new_database

ON_BOTH_DATABASES = pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
"""Marks tests that look at what databases do differently."""


ON_BOTH_STORES = pytest.mark.parametrize("store", ["folder", "objects"], indirect=True)
"""Marks tests that look at where bytes lie before they are whole."""


@pytest.fixture
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the bytes: empty for a folder, or a folder of a bucket."""
    if getattr(request, "param", "folder") == "folder":
        return ""
    for name, value in request.getfixturevalue("object_store").items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{uuid.uuid4().hex}"


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """The address of the records: empty for SQLite, or a new database in PostgreSQL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return ""
    folder: str = request.getfixturevalue("postgres")
    return new_database(folder, f"test_{uuid.uuid4().hex}")


@pytest.fixture
def settings(tmp_path: Path, engine: str, store: str) -> Settings:
    """Settings of a fresh installation whose queue is away."""
    return Settings(
        home=tmp_path / "home",
        database_url=engine,
        blob_url=store,
        redis_url=f"unix://{tmp_path}/no.sock",
        sandbox="off",
        keys="optional",
        max_upload_bytes=1_000_000,
        log_level="ERROR",
    )


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    """A client of the running application."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """The application behind a real HTTP server on a free port; gives its address."""
    config = uvicorn.Config(
        create_app(settings), port=0, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def live(settings: Settings) -> Iterator[httpx.Client]:
    """An HTTP client of the application behind a real server."""
    with running(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def safetensors(**tensors: list[float]) -> bytes:
    """A safetensors file of one-dimensional float32 tensors."""
    header, data = {}, b""
    for name, values in tensors.items():
        chunk = struct.pack(f"<{len(values)}f", *values)
        header[name] = {
            "dtype": "F32",
            "shape": [len(values)],
            "data_offsets": [len(data), len(data) + len(chunk)],
        }
        data += chunk
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def npz(**arrays: object) -> bytes:
    """An .npz file of these arrays."""
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(values) for name, values in arrays.items()})
    return file.getvalue()


MODEL = safetensors(weight=[1.0, 2.0], bias=[0.5])
DATASET = npz(inputs=np.zeros((4, 3), np.float32), labels=np.arange(4))


def upload(api: httpx.Client, what: str, content: bytes, **params: str) -> str:
    """Upload and return the id."""
    answer = api.post(f"/v1/{what}", content=content, params=params)
    assert answer.is_success, answer.text
    return str(answer.json()["id"])


def stored_files(settings: Settings) -> list[Path]:
    """All files in the blob folder, whole or half-written."""
    return [path for path in (settings.home / "blobs").rglob("*") if path.is_file()]


def request_for(api: httpx.Client, **changes: object) -> dict[str, object]:
    """A job request that is accepted, with a model of its own where `changes` name none."""
    body: dict[str, object] = {"input_shapes": [[1, 3]], "architecture": {"name": "a/b"}}
    if "model" not in changes:
        body["model"] = upload(api, "models", MODEL)
    return body | changes


def queued(api: httpx.Client, *, headers: dict[str, str] | None = None, **changes: object) -> str:
    """The id of a job that waits."""
    answer = api.post("/v1/jobs", json=request_for(api, **changes), headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def settle(database: Database, job: str, **outcome: Any) -> None:
    """End a queued job as a worker would."""
    with database.write() as session:
        claim = jobs.claim_job(session, id=job, worker="w", lease_seconds=60)
        assert claim is not None
        assert jobs.settle_job(session, claim, **({"outcome": "succeeded"} | outcome))
