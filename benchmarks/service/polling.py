"""Looking at a job, beside a bare FastAPI route."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from benchmarks.service.figure import Figure
from benchmarks.service.server import server, stored_jobs

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


def measure(folder: Path, seconds: float) -> list[Figure]:
    """Ask both for so many seconds, one after the other."""
    home = folder / "polling"
    job = stored_jobs(home, 100)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bare = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
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
            most=3,
        )
    ]
