"""Time and memory on networks that are long, and on networks that are wide.

    python -m benchmarks.scale

Takes about six minutes. Writes results/scale.md and .json.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import intrafusion
from benchmarks.architectures import torchvision
from benchmarks.zoo.memory import peak_bytes, resident_bytes
from benchmarks.zoo.processes import in_own_process
from benchmarks.zoo.row import seconds
from intrafusion import CompressionSpec
from intrafusion.channels import Group, analyse, remove
from intrafusion.program import Program
from intrafusion.transport.absolute import add_absolute

RESULTS = Path(__file__).resolve().parent / "results"
LIMIT_SECONDS = 600
NODES_PER_BLOCK = 8
LENGTHS = (1_000, 3_000, 10_000, 30_000)


class Block(nn.Module):
    """A residual block of two convolutions: eight nodes of a graph."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(torch.relu(self.inner(x)))


def chain(blocks: int, width: int = 8) -> nn.Module:
    """A chain of residual blocks: one group for the stream, one within each block."""
    body = [Block(width) for _ in range(blocks)]
    ends = nn.Conv2d(3, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)
    return nn.Sequential(ends[0], *body, *ends[1:])


def wide(width: int) -> nn.Module:
    """A square matrix between two small layers."""
    return nn.Sequential(
        *(nn.Linear(100, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 10),
    )


@dataclass(frozen=True)
class Network:
    """A network whose memory is measured.

    Attributes:
        build: makes it.
        shape: of its input, batch first.
        compressed: by which spec `compress` is measured as well; None: it is not.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    compressed: CompressionSpec | None = None


HALF = CompressionSpec(sparsity=0.5)
WEIGHTS_ALONE = CompressionSpec(sparsity=0.5, compensation="none")

NETWORKS: dict[str, Network] = {
    "matrix of 4M": Network(partial(wide, 2_000), (2, 100), HALF),
    "matrix of 100M": Network(partial(wide, 10_000), (2, 100), WEIGHTS_ALONE),
    "vgg16": Network(torchvision("vgg16"), (2, 3, 224, 224)),
}


@dataclass(frozen=True)
class LengthRow:
    """Seconds of processor time on a chain with so many nodes in its graph."""

    nodes: int
    groups: int
    capture_seconds: float
    analysis_seconds: float
    removal_seconds: float


@dataclass(frozen=True)
class MemoryRow:
    """Most memory held beyond the module, in multiples of `model_bytes`.

    Attributes:
        network: its name in `NETWORKS`.
        model_bytes: of parameters and buffers.
        load: during `load`.
        removal: during load, analysis and removal.
        compress: during load and `compress` without samples; None: not measured.
    """

    network: str
    model_bytes: int
    load: float
    removal: float
    compress: float | None = None


def measure_length(nodes: int) -> LengthRow:
    """Load and analyse a chain, and remove half of the units of every group."""
    _warm_up()
    network = chain(nodes // NODES_PER_BLOCK).eval()
    program, capture = seconds(lambda: intrafusion.load(network, input_shapes=[(2, 3, 4, 4)]))
    # Python goes through all objects there are whenever a quarter more have come to be. Which step
    # that falls on is chance, and what it costs there is due to the steps before.
    gc.freeze()
    analysis, taken = seconds(lambda: analyse(program))
    gc.freeze()
    kept = _first_half(analysis.groups)
    _, taken_by_removal = seconds(lambda: remove(analysis, kept))
    found = len(program.graph.nodes), len(analysis.groups)
    return LengthRow(*found, capture, taken, taken_by_removal)


def measure_memory(name: str) -> MemoryRow:
    """Load, analyse, remove half of every group's units; then compress what was loaded."""
    _warm_up()
    few = torch.rand(2, 2)
    add_absolute([(few, few)], few.new_zeros(2, 2, dtype=torch.float64))  # brings its compiler
    network = NETWORKS[name]
    module = network.build().eval()
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    before = resident_bytes()
    program = intrafusion.load(module, input_shapes=[network.shape])
    load = peak_bytes() - before
    _remove_half(program)
    removal = peak_bytes() - before
    compress = None
    if network.compressed is not None:
        resident_bytes()  # the peak of the removal is not that of the compression
        intrafusion.compress(program, network.compressed)
        compress = max(load, peak_bytes() - before)
    return MemoryRow(
        name, size, load / size, removal / size, None if compress is None else compress / size
    )


def _remove_half(program: Program) -> None:
    analysis = analyse(program)
    remove(analysis, _first_half(analysis.groups))


def _first_half(groups: Sequence[Group]) -> dict[Group, Tensor]:
    return {group: torch.arange((len(group) + 1) // 2) for group in groups}


def _warm_up() -> None:
    """What torch imports and allocates at first use belongs to no network."""
    program = intrafusion.load(chain(1).eval(), input_shapes=[(2, 3, 4, 4)])
    intrafusion.compress(program, HALF)


def as_markdown(lengths: Sequence[LengthRow], memory: Sequence[MemoryRow]) -> str:
    """Both tables, and what they are measured on."""
    versions = f"torch {torch.__version__}, one thread, Python {platform.python_version()}"
    return "\n".join(
        [
            "# Scale",
            "",
            f"`python -m benchmarks.scale` · {versions}",
            "",
            "## Long graphs",
            "",
            (
                "A chain of residual blocks of 8 channels. Seconds of processor time; the last "
                "column is of analysis and removal."
            ),
            "",
            "| nodes | groups | capture s | analysis s | removal s | µs per node |",
            "|---|---|---|---|---|---|",
            *map(_length_line, lengths),
            "",
            "## Large tensors",
            "",
            (
                "The most memory that the process held beyond what it held before, the module "
                "already in it, in multiples of the module's parameters and buffers. Removal is "
                "of load, analysis and removal together, compress of load and "
                "`intrafusion.compress` without samples: the matrix of 4M by the defaults, on "
                'samples that are made for it, that of 100M with `compensation="none"`, as '
                "its samples take a quarter of an hour."
            ),
            "",
            "| network | model MiB | load | removal | compress |",
            "|---|---|---|---|---|",
            *map(_memory_line, memory),
            "",
        ]
    )


def _length_line(row: LengthRow) -> str:
    per_node = (row.analysis_seconds + row.removal_seconds) / row.nodes * 1e6
    return (
        f"| {row.nodes} | {row.groups} | {row.capture_seconds:.1f} | {row.analysis_seconds:.2f} "
        f"| {row.removal_seconds:.2f} | {per_node:.0f} |"
    )


def _memory_line(row: MemoryRow) -> str:
    compress = "" if row.compress is None else f"{row.compress:.2f}"
    return (
        f"| {row.network} | {row.model_bytes / 2**20:.1f} | {row.load:.2f} | {row.removal:.2f} "
        f"| {compress} |"
    )


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    lengths = [in_own_process(partial(measure_length, n), LIMIT_SECONDS) for n in LENGTHS]
    memory = [in_own_process(partial(measure_memory, n), LIMIT_SECONDS) for n in NETWORKS]
    table = as_markdown(lengths, memory)
    print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.md").write_text(table)
    record = {"lengths": [asdict(r) for r in lengths], "memory": [asdict(r) for r in memory]}
    (RESULTS / "scale.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
