"""The newest jobs of many, beside the same of few; both servers are asked in turn."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import httpx

from benchmarks.service.figure import Figure
from benchmarks.service.server import server, stored_jobs


def measure(folder: Path) -> list[Figure]:
    """Medians of 60 lists each."""
    few, many = folder / "few", folder / "many"
    for home, count in ((few, 100), (many, 10_000)):
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
            most=1.5,
        )
    ]
