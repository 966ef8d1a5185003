"""A large upload: memory of the API, and seconds beside copying and hashing the same file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.service.figure import Figure, MiB
from benchmarks.service.server import resident, server
from tests.servers import s3

IN_MEMORY = 1.0
"""Most gigabytes for the S3 server of the tests, which keeps all that it is given in memory, and
several times while it puts the parts of an object together."""


def large_model(path: Path, size: int) -> None:
    """A safetensors file of one tensor of `size` bytes."""
    header = {"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    noise = np.random.default_rng(0).integers(0, 256, 16 * MiB, np.uint8).tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = size
        while left > 0:
            file.write(noise[: min(left, len(noise))])
            left -= len(noise)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(MiB):
            yield chunk


def copy_and_hash(source: Path, target: Path) -> tuple[float, str]:
    """Seconds to copy a file and bring it to disk, and its SHA-256."""
    began = time.perf_counter()
    digest = hashlib.sha256()
    with target.open("wb") as copy:
        for chunk in _chunks(source):
            copy.write(chunk)
            digest.update(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    took = time.perf_counter() - began
    target.unlink()
    return took, digest.hexdigest()


def in_one_request(client: httpx.Client, source: Path) -> str:
    """Upload to /v1/models; returns the address of the model."""
    answer = client.post("/v1/models", content=_chunks(source))
    return f"/v1/models/{answer.raise_for_status().json()['id']}"


def resumable(client: httpx.Client, source: Path) -> str:
    """Upload by tus, as the client of this package sends large files."""
    tus = {"Tus-Resumable": "1.0.0"}
    headers = tus | {"Upload-Length": str(source.stat().st_size)}
    where = client.post("/v1/uploads", headers=headers).raise_for_status().headers["Location"]
    part = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    answer = client.patch(where, headers=tus | part, content=_chunks(source))
    return str(answer.raise_for_status().headers["Content-Location"])


@dataclass(frozen=True)
class Sent:
    """What an upload took of time, and of the server's memory above what it had."""

    seconds: float
    grown: int


def send(
    folder: Path,
    source: Path,
    sha256: str,
    upload: Callable[[httpx.Client, Path], str],
    **settings: object,
) -> Sent:
    """Send a file to a new server."""
    limit = source.stat().st_size * 2
    with server(folder, max_upload_bytes=limit, sandbox="auto", **settings) as (url, pid):
        with httpx.Client(base_url=url, timeout=None) as client:
            client.post("/v1/models", content=b"warm")
            before = resident(pid)
            began = time.perf_counter()
            model = upload(client, source)
            took = time.perf_counter() - began
            assert client.get(model).json()["sha256"] == sha256
        return Sent(took, resident(pid, "VmHWM") - before)


def measure(folder: Path, gigabytes: float) -> list[Figure]:
    """Copy and hash a file here, then send it to servers."""
    size = round(gigabytes * 1e9)
    source = folder / "large.safetensors"
    large_model(source, size)
    plain, sha256 = copy_and_hash(source, folder / "copy")
    whole = send(folder / "whole", source, sha256, in_one_request)
    shutil.rmtree(folder / "whole")
    parts = send(folder / "parts", source, sha256, resumable)
    shutil.rmtree(folder / "parts")
    most = min(gigabytes, IN_MEMORY)
    large_model(source, round(most * 1e9))
    _, sha256 = copy_and_hash(source, folder / "copy")
    with s3() as store:
        os.environ.update(store)
        objects = send(folder / "s3", source, sha256, resumable, blob_url="s3://bucket")

    def throughput(what: str, sent: Sent) -> Figure:
        return Figure(
            f"{what}: throughput",
            f"{size / sent.seconds / 1e6:.0f} MB/s",
            f"copy with sha256 {size / plain / 1e6:.0f} MB/s",
            plain / sent.seconds,
            least=0.5,
        )

    def memory(what: str, sent: Sent) -> Figure:
        return Figure(
            f"{what}: memory of the API",
            f"+{sent.grown / MiB:.0f} MiB",
            "64 MB",
            sent.grown / 64e6,
            most=1,
        )

    upload = f"upload of {gigabytes:g} GB"
    return [
        throughput(upload, whole),
        memory(upload, whole),
        throughput(f"resumable {upload}", parts),
        memory(f"resumable {upload}", parts),
        memory(f"resumable upload of {most:g} GB to S3", objects),
    ]
