"""A real application over a real SQLite file and blob folder, and files to send it."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.main import create_app
from service.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a fresh installation whose queue is away."""
    return Settings(
        home=tmp_path / "home",
        redis_url=f"unix://{tmp_path}/no.sock",
        sandbox="off",
        max_upload_bytes=1_000_000,
        log_level="ERROR",
    )


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    """A client of the running application."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
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


def upload(api: TestClient, what: str, content: bytes, **params: str) -> str:
    """Upload and return the id."""
    answer = api.post(f"/v1/{what}", content=content, params=params)
    assert answer.is_success, answer.text
    return str(answer.json()["id"])


def stored_files(settings: Settings) -> list[Path]:
    """All files in the blob folder, whole or half-written."""
    return [path for path in (settings.home / "blobs").rglob("*") if path.is_file()]
