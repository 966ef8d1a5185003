"""The way of a job to the engine: from its submission to the moment the engine begins to load.

What the job process spends on importing torch is measured in the job, since no service can spare
a fresh interpreter that; the rest is the service's own.
"""

from __future__ import annotations

import statistics
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.service.figure import Figure
from benchmarks.service.server import server

EXAMPLES = Path(__file__).parents[2] / "examples"
JOBS = 9
PROMISED_S = 1.5


def measure(folder: Path) -> list[Figure]:
    """Medians over jobs that are sent one by one to a worker that has run one before."""
    waits, imports, totals = [], [], []
    with (
        server(folder / "overhead", sandbox="auto") as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        network = (EXAMPLES / "mnist_mlp.pt").read_bytes()
        model = client.post("/v1/models", content=network).raise_for_status().json()["id"]
        body = {"model": model, "input_shapes": [[1, 1, 28, 28]], "outputs": ["safetensors"]}
        for number in range(1 + JOBS):
            answer = client.post("/v1/jobs", json=body | {"metadata": {"number": str(number)}})
            job = answer.raise_for_status().json()["id"]
            ended = client.get(f"/v1/jobs/{job}", params={"wait": 60}).raise_for_status().json()
            assert ended["status"] == "succeeded", ended
            events = client.get(f"/v1/jobs/{job}/events", params={"limit": 200}).json()["data"]
            if number == 0:
                continue  # the worker's first: its child process and the disk are cold
            submitted = moment(next(e for e in events if e["data"].get("status") == "queued"))
            claimed = moment(next(e for e in events if e["data"].get("status") == "running"))
            begun = moment(next(e for e in events if e["data"].get("step") == "load"))
            waits.append(claimed - submitted)
            imports.append(metric(events, "torch_seconds"))
            totals.append(begun - submitted)
    rest = [total - importing for total, importing in zip(totals, imports, strict=True)]
    return [
        Figure(
            "submission to engine, without torch's import: median",
            f"{statistics.median(rest):.2f} s",
            f"{PROMISED_S} s; with the import {statistics.median(totals):.2f} s, of which "
            f"torch {statistics.median(imports):.2f} s; until claimed "
            f"{statistics.median(waits) * 1000:.0f} ms",
            statistics.median(rest) / PROMISED_S,
            most=1,
        )
    ]


def moment(event: dict[str, Any]) -> float:
    """When an event was stored, in seconds."""
    return datetime.fromisoformat(event["at"]).timestamp()


def metric(events: list[dict[str, Any]], name: str) -> float:
    """What the job measured under that name."""
    (value,) = (e["data"]["value"] for e in events if e["data"].get("name") == name)
    return float(value)
