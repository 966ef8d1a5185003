"""What the service costs: uploads, polling, listing, and the way of a job to the engine.

    python -m benchmarks.service [PART …] [--gigabytes 5] [--seconds 60]

Measures the parts named, or all. Each figure stands beside what it is measured against in the same
run, as ratios; the server is a process of its own, as `intrafusion serve` starts it. The results
are kept in results/service.json, and shown in results/service.md. Exits 1 where a promise is
broken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.service import listing, overhead, polling, upload
from benchmarks.service.figure import Figure

RESULTS = Path(__file__).resolve().parents[1] / "results"
PARTS = ("overhead", "listing", "polling", "upload")


def measured(part: str, folder: Path, chosen: argparse.Namespace) -> list[Figure]:
    """The figures of one part."""
    match part:
        case "overhead":
            return overhead.measure(folder)
        case "listing":
            return listing.measure(folder)
        case "polling":
            return polling.measure(folder, chosen.seconds)
        case _:
            return upload.measure(folder, chosen.gigabytes)


def machine() -> str:
    """How many cores there are, and how busy they were."""
    load = os.getloadavg()[1]
    return f"{os.cpu_count()} cores, load average {load:.1f} in the five minutes before its end"


def as_markdown(results: Mapping[str, Any]) -> str:
    """All that has been measured, one line each."""
    lines = [
        "# The service",
        "",
        "`python -m benchmarks.service`",
        "",
        "| part | | measured | beside | ratio | promised |",
        "|---|---|---:|---:|---:|---:|",
    ]
    known = [part for part in PARTS if part in results]
    for part in known:
        figures = [Figure(**row) for row in results[part]["figures"]]
        lines += [
            f"| {part} | {figure.what} | {figure.measured} | {figure.beside} | "
            f"{figure.ratio:.2f} | {figure.promised} |"
            for figure in figures
        ]
    lines += ["", *(f"`{part}`: {results[part]['machine']}.  " for part in known)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and keep; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args(arguments)
    path = RESULTS / "service.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    broken = []
    for part in chosen.parts or PARTS:
        with tempfile.TemporaryDirectory() as name:
            figures = measured(part, Path(name), chosen)
        broken += [figure.what for figure in figures if not figure.kept]
        results[part] = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
        (RESULTS / "service.md").write_text(as_markdown(results))
    sys.stdout.write(as_markdown(results))
    for what in broken:
        sys.stderr.write(f"Broken: {what}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
