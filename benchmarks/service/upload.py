"""A large upload: memory of the API, and seconds beside copying and hashing the same file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from benchmarks.service.figure import Figure, MiB
from benchmarks.service.server import resident, server


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


def measure(folder: Path, gigabytes: float) -> list[Figure]:
    """Copy and hash a file here, then send it to a server."""
    size = round(gigabytes * 1e9)
    source = folder / "large.safetensors"
    large_model(source, size)

    def chunks() -> Iterator[bytes]:
        with source.open("rb") as file:
            while chunk := file.read(MiB):
                yield chunk

    began = time.perf_counter()
    digest = hashlib.sha256()
    with (folder / "copy").open("wb") as copy:
        for chunk in chunks():
            copy.write(chunk)
            digest.update(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    plain = time.perf_counter() - began
    (folder / "copy").unlink()
    with server(folder / "upload", max_upload_bytes=size * 2, sandbox="auto") as (url, pid):
        with httpx.Client(base_url=url, timeout=None) as client:
            client.post("/v1/models", content=b"warm")
            before = resident(pid)
            began = time.perf_counter()
            answer = client.post("/v1/models", content=chunks())
            took = time.perf_counter() - began
        assert answer.json()["sha256"] == digest.hexdigest(), answer.text
        grown = resident(pid, "VmHWM") - before
    source.unlink()
    return [
        Figure(
            f"upload of {gigabytes:g} GB: throughput",
            f"{size / took / 1e6:.0f} MB/s",
            f"copy with sha256 {size / plain / 1e6:.0f} MB/s",
            plain / took,
            least=0.5,
        ),
        Figure(
            f"upload of {gigabytes:g} GB: memory of the API",
            f"+{grown / MiB:.0f} MiB",
            "64 MB",
            grown / 64e6,
            most=1,
        ),
    ]
