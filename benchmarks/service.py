"""What the service costs: uploads, polling, listing, and the way of a job to the engine.

    python -m benchmarks.service [--gigabytes 5] [--seconds 60]

Each figure stands beside what it is measured against in the same run, as ratios; the server is a
process of its own, as `intrafusion serve` starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np

from service.ids import new_id
from service.store.database import Database, now
from service.store.records import DEFAULT_TENANT, JobRecord

RESULTS = Path(__file__).parent / "results"
MiB = 1024**2
RATE = 200
BARE = """
import uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/job")
def job() -> dict[str, str]:
    return {"status": "queued"}
uvicorn.run(app, port=int(__import__("sys").argv[1]), log_level="error")
"""


@dataclass(frozen=True)
class Figure:
    """One measured number, what it is compared with, and the ratio that was promised."""

    what: str
    measured: str
    beside: str
    ratio: float
    promised: str


@contextmanager
def server(home: Path, **settings: object) -> Iterator[tuple[str, int]]:
    """`intrafusion serve` in `home`; its address and process id."""
    environment = os.environ | {f"INTRAFUSION_{k.upper()}": str(v) for k, v in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "intrafusion.cli", "serve", "--port", "0", "--home", home],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield json.loads((home / "server.json").read_text())["url"], process.pid
    process.send_signal(signal.SIGINT)
    process.wait()


def resident(pid: int, field: str = "VmRSS") -> int:
    """Bytes of memory a process holds, or with VmHWM held at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


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


def upload(folder: Path, gigabytes: float) -> list[Figure]:
    """A large upload: memory of the API, and seconds beside copying and hashing the same file."""
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
            "≥ 0.5",
        ),
        Figure(
            f"upload of {gigabytes:g} GB: memory of the API",
            f"+{grown / MiB:.0f} MiB",
            "64 MB",
            grown / 64e6,
            "< 1",
        ),
    ]


async def poll(url: str, path: str, seconds: float) -> list[float]:
    """Seconds of each request, RATE of them begun every second, whatever the answers take."""
    took: list[float] = []
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:

        async def ask() -> None:
            began = time.perf_counter()
            (await client.get(path)).raise_for_status()
            took.append(time.perf_counter() - began)

        tasks = []
        began = time.perf_counter()
        for number in range(round(RATE * seconds)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            tasks.append(asyncio.create_task(ask()))
        await asyncio.gather(*tasks)
    return took


def percentile(took: list[float], share: float) -> float:
    """That percentile in milliseconds."""
    return sorted(took)[int(len(took) * share)] * 1000


def stored_jobs(home: Path, count: int) -> str:
    """Write so many jobs as a year of pipelines leaves; returns one id."""
    database = Database(f"sqlite:///{home / 'intrafusion.db'}")
    database.migrate()
    request = {"spec": {"method": "prune"}, "outputs": [], "metadata": {}}
    with database.write() as session:
        for _ in range(count):
            session.add(
                JobRecord(
                    id=(job := new_id("job")),
                    tenant=DEFAULT_TENANT,
                    status="succeeded",
                    model_id="model_1",
                    method="prune",
                    request=request,
                    queued_at=now(),
                    ended_at=now(),
                )
            )
    database.close()
    return job


def polling(folder: Path, seconds: float) -> list[Figure]:
    """Looking at a job, beside a bare FastAPI route."""
    home = folder / "polling"
    home.mkdir()
    job = stored_jobs(home, 100)
    port = "18431"
    bare = subprocess.Popen([sys.executable, "-c", BARE, port])
    try:
        with server(home) as (url, _):
            time.sleep(2)
            asyncio.run(poll(f"http://127.0.0.1:{port}", "/job", 2))
            beside = asyncio.run(poll(f"http://127.0.0.1:{port}", "/job", seconds))
            asyncio.run(poll(url, f"/v1/jobs/{job}", 2))
            took = asyncio.run(poll(url, f"/v1/jobs/{job}", seconds))
    finally:
        bare.terminate()
        bare.wait()
    ours, theirs = percentile(took, 0.99), percentile(beside, 0.99)
    return [
        Figure(
            f"{RATE} polls a second for {seconds:g} s: p99",
            f"{ours:.1f} ms (median {percentile(took, 0.5):.1f})",
            f"bare route {theirs:.1f} ms (median {percentile(beside, 0.5):.1f})",
            ours / theirs,
            "≤ 3",
        )
    ]


def listing(folder: Path) -> list[Figure]:
    """The newest jobs of many, beside the same of few; both servers are asked in turn."""
    few, many = folder / "few", folder / "many"
    for home, count in ((few, 100), (many, 10_000)):
        home.mkdir()
        stored_jobs(home, count)
    took: dict[str, list[float]] = {}
    with server(few) as (first, _), server(many) as (second, _):
        for _ in range(60):
            for url in (first, second):
                began = time.perf_counter()
                httpx.get(f"{url}/v1/jobs").raise_for_status()
                took.setdefault(url, []).append(time.perf_counter() - began)
        slow, quick = (statistics.median(took[url]) * 1000 for url in (second, first))
    return [
        Figure(
            "the newest 50 of 10,000 jobs: median",
            f"{slow:.1f} ms",
            f"of 100 jobs {quick:.1f} ms",
            slow / quick,
            "≤ 1.5",
        )
    ]


def table(figures: list[Figure]) -> str:
    """The results as Markdown, with how busy the machine was."""
    rows = [
        f"| {figure.what} | {figure.measured} | {figure.beside} | {figure.ratio:.2f} | "
        f"{figure.promised} |"
        for figure in figures
    ]
    around = (
        "`python -m benchmarks.service` · "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[2]:.1f} in the quarter of an hour "
        "before its end\n"
    )
    heading = [
        around,
        "| | measured | beside | ratio | promised |",
        "|---|---:|---:|---:|---:|",
    ]
    return "\n".join([*heading, *rows]) + "\n"


def main() -> None:
    """Measure, print, and write to results/service.md and .json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = [
            *listing(folder),
            *polling(folder, chosen.seconds),
            *upload(folder, chosen.gigabytes),
        ]
    sys.stdout.write(table(figures))
    (RESULTS / "service.md").write_text(table(figures))
    (RESULTS / "service.json").write_text(
        json.dumps([asdict(figure) for figure in figures], indent=2, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
