"""Whether widths that are multiples of 4, 8 or 16 run faster on this machine, at equal MACs.

    python -m benchmarks.rounding

Writes results/rounding.md and .json.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import intrafusion
from benchmarks.architectures import named
from intrafusion import CompressionSpec, Program
from intrafusion.budget.allocator import Allocator
from intrafusion.channels import analyse, remove
from intrafusion.evaluation import latencies, macs
from intrafusion.folding import fold_batch_norm
from intrafusion.importance.context import Context, criterion_named

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
MULTIPLES = (1, 4, 8, 16)
SHARES = (0.35, 0.5, 0.65)
EXAMPLES = ("fashion_vgg", "fashion_resnet", "fashion_mobilenet")
LARGE = ("resnet18", "mobilenet_v2")
SECONDS = 12.0


@dataclass(frozen=True)
class Row:
    """One network within a share of its MACs, its widths any numbers or multiples.

    Attributes:
        network: its name.
        batch: samples per forward pass.
        share: of the multiply-accumulates that may be left.
        macs: share that is left, for each of `MULTIPLES`.
        latency: share of the original's, for each of them; all interleaved in one run.
    """

    network: str
    batch: int
    share: float
    macs: tuple[float, ...]
    latency: tuple[float, ...]


def networks() -> Iterator[tuple[str, Program, tuple[int, ...]]]:
    """Name, program and batch sizes."""
    for name in EXAMPLES:
        path = ROOT / "examples" / f"{name}.pt"
        yield name, intrafusion.load(path, input_shapes=[(1, 1, 28, 28)]), (1, 32)
    for name in LARGE:
        network = named(name).build().eval()
        yield name, intrafusion.load(network, input_shapes=[(1, 3, 224, 224)]), (1,)


def measure(name: str, program: Program, batch: int, share: float) -> Row:
    """Narrow `program` by the ℓ1 norms of its units, once for each multiple, and time them all."""
    context = Context(analyse(fold_batch_norm(program).program))
    small = []
    for multiple in MULTIPLES:
        spec = CompressionSpec(macs=share, allocation="global", importance="l1", round_to=multiple)
        counts = Allocator(context, criterion_named("l1"), spec).nearest({"macs": share})
        kept = {group: torch.arange(count) for group, count in counts.items()}
        small.append(remove(context.analysis, kept).program)
    whole, *times = latencies([program, *small], batch=batch, seconds=SECONDS)
    return Row(
        name,
        batch,
        share,
        tuple(macs(each) / macs(program) for each in small),
        tuple(time.median_ms / whole.median_ms for time in times),
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """The table, and what it is measured on."""
    titles = " | ".join("any" if each == 1 else str(each) for each in MULTIPLES)
    return "\n".join(
        [
            "# Rounding of widths",
            "",
            f"`python -m benchmarks.rounding` · {_machine()}",
            "",
            (
                "Latency as a share of the original's, of networks narrowed to the same share of "
                "MACs whose widths are any numbers, or multiples of 4, 8, 16 (`round_to`). In "
                "brackets the share of MACs that is left: a budget is kept from below."
            ),
            "",
            f"| network | batch | MACs | {titles} |",
            "|---|---|---" + "|---" * len(MULTIPLES) + "|",
            *map(_line, rows),
            "",
        ]
    )


def _line(row: Row) -> str:
    cells = " | ".join(
        f"{time:.3f} ({left:.3f})" for time, left in zip(row.latency, row.macs, strict=True)
    )
    return f"| {row.network} | {row.batch} | {row.share:.2f} | {cells} |"


def _machine() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    processor = f"{platform.machine()} with {capability}, one thread"
    return f"torch {torch.__version__}, {processor}, Python {platform.python_version()}"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, program, batches in networks():
        for batch in batches:
            for share in SHARES:
                rows.append(measure(name, program, batch, share))
                print(_line(rows[-1]), flush=True)
    (RESULTS / "rounding.json").write_text(
        json.dumps([asdict(row) for row in rows], indent=2) + "\n"
    )
    (RESULTS / "rounding.md").write_text(as_markdown(rows))


if __name__ == "__main__":
    main()
