"""How fast the steps are.

    python -m benchmarks.speed [PART …]

Measures the parts named, or all, and writes them into results/speed.json; results/speed.md shows
all that have been measured. Exits 1 where a promise is broken.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import cost, inference, lockstep, plan, whole
from benchmarks.speed.part import Part, Row

RESULTS = Path(__file__).resolve().parents[1] / "results"
PARTS: Mapping[str, Part] = {
    "cost": cost.PART,
    "plan": plan.PART,
    "lockstep": lockstep.PART,
    "whole": whole.PART,
    "inference": inference.PART,
}


def main(names: Sequence[str]) -> None:
    if unknown := set(names) - set(PARTS):
        sys.exit(f"There is no part {', '.join(unknown)}; choose among {', '.join(PARTS)}.")
    path = RESULTS / "speed.json"
    measured: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    faults = []
    for name in names or PARTS:
        rows = []
        for row in PARTS[name].measure():
            print(name, dict(row), file=sys.stderr)
            rows.append(row)
        measured[name] = {"machine": machine(), "rows": rows}
        faults += PARTS[name].broken(rows)
        path.write_text(json.dumps(measured, indent=2) + "\n")
        (RESULTS / "speed.md").write_text(as_markdown(measured))
    print(as_markdown(measured))
    if faults:
        sys.exit("\n".join(faults))


def machine() -> str:
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, {platform.machine()}"
    )


def as_markdown(measured: Mapping[str, Any]) -> str:
    """A table per part that has been measured."""
    lines = [
        "# Speed",
        "",
        "`python -m benchmarks.speed` · seconds (s) are of processor time, all threads together",
    ]
    for name, part in PARTS.items():
        if name in measured:
            rows = measured[name]["rows"]
            lines += ["", f"## {part.title}", "", f"`{name}` · {measured[name]['machine']}", ""]
            lines += [*_table(rows), "", part.caption]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    headings = list(rows[0])
    return [
        f"| {' | '.join(headings)} |",
        f"|{'---:|' * len(headings)}",
        *(f"| {' | '.join(_cell(row[heading]) for heading in headings)} |" for row in rows),
    ]


def _cell(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value


if __name__ == "__main__":
    main(sys.argv[1:])
