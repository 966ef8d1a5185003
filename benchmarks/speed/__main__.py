"""How fast the steps are; `--help` says how to measure them, and where."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import cost, inference, lockstep, plan, whole
from benchmarks.speed.part import CPU, Part, Row

RESULTS = Path(__file__).resolve().parents[1] / "results"
PARTS: Mapping[str, Part] = {
    "cost": cost.PART,
    "plan": plan.PART,
    "lockstep": lockstep.PART,
    "whole": whole.PART,
    "inference": inference.PART,
}
HELP = """\
Measures the parts named, or all, and writes them into results/speed.json; results/speed.md shows
all that have been measured. What was measured on a device other than the CPU stands beside it, in
tables of its own. Exits 1 where a promise is broken; promised is something of CPUs alone."""
EXAMPLES = """\
parts: {parts}

examples:
  python -m benchmarks.speed                     every part, on the CPU
  python -m benchmarks.speed cost plan           two of them
  python -m benchmarks.speed --device cuda       every part, on the GPU
  python -m benchmarks.speed --device cuda whole
      a whole compression beside its peers on the GPU, with the share of the time that the
      exact solver takes, which works on the CPU

On the CPU seconds are of processor time, all threads together, so that other programs do not
disturb them; OMP_NUM_THREADS says how many threads there are. On a GPU they are wall-clock seconds
until it is done: nothing else should run on the machine."""


def main(arguments: Sequence[str]) -> None:
    parser = _parser()
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; choose among {', '.join(PARTS)}")
    device = _device(parser, asked.device)
    path = RESULTS / "speed.json"
    measured: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    faults = []
    for name in asked.parts or PARTS:
        rows = []
        for row in PARTS[name].measure(device):
            print(name, dict(row), file=sys.stderr)
            rows.append(row)
        measured[_key(name, device.type)] = {"machine": machine(device), "rows": rows}
        if device == CPU:
            faults += PARTS[name].broken(rows)
        path.write_text(json.dumps(measured, indent=2) + "\n")
        (RESULTS / "speed.md").write_text(as_markdown(measured))
    print(as_markdown(measured))
    if faults:
        sys.exit("\n".join(faults))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=HELP,
        epilog=EXAMPLES.format(parts=", ".join(PARTS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure")
    parser.add_argument(
        "--device", default="cpu", help="where: cpu, cuda, cuda:1 (default: %(default)s)"
    )
    return parser


def _device(parser: argparse.ArgumentParser, name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        parser.error(f"there is no device {name!r} here: {str(error).splitlines()[0]}")
    return device


def _key(part: str, kind: str) -> str:
    """What a part measured on that kind of device is stored as."""
    return part if kind == "cpu" else f"{part} on {kind}"


def machine(device: torch.device = CPU) -> str:
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return (
        f"torch {torch.__version__}{gpu}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, {platform.machine()}"
    )


def as_markdown(measured: Mapping[str, Any]) -> str:
    """A table per part and kind of device that has been measured."""
    lines = [
        "# Speed",
        "",
        "`python -m benchmarks.speed` · seconds (s) are of processor time, all threads together"
        + ("; on other devices wall-clock" if set(measured) - set(PARTS) else ""),
    ]
    for key, kind, part in _tables(measured):
        rows, where = measured[key]["rows"], "" if kind == "cpu" else f" on {kind}"
        lines += ["", f"## {part.title}{where}", "", f"`{key}` · {measured[key]['machine']}", ""]
        said = part.caption if kind == "cpu" else f"{part.caption} {part.elsewhere}".rstrip()
        lines += [*_table(rows), "", said]
    return "\n".join(lines) + "\n"


def _tables(measured: Mapping[str, Any]) -> Iterator[tuple[str, str, Part]]:
    """Key, kind of device and part of all that was measured, part by part, the CPU first."""
    for name, part in PARTS.items():
        own = {key: key.removeprefix(f"{name} on ") for key in measured if key.startswith(name)}
        own = {key: "cpu" if key == name else kind for key, kind in own.items()}
        for key in sorted(own, key=lambda key: (own[key] != "cpu", key)):
            yield key, own[key], part


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
