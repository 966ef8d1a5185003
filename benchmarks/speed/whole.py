"""A whole compression without samples, beside the published code and beside pruning by magnitude.

Graph capture is left out on our side, and the measuring of the result on either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
from torch import nn

import intrafusion
from benchmarks.architectures import randomise, torchvision
from benchmarks.peers import magnitude, published_intra_fusion
from benchmarks.speed.part import Part, Row, timed
from benchmarks.zoo.memory import peak_bytes, resident_bytes
from intrafusion import CompressionSpec, Program
from intrafusion.report import Progress

SHAPE = (3, 224, 224)
SPARSITY = 0.5
PUBLISHED, DEFAULT = "published settings", "defaults"
SPECS = {
    PUBLISHED: CompressionSpec(sparsity=SPARSITY, method="intra-fusion-published"),
    DEFAULT: CompressionSpec(sparsity=SPARSITY, compensation="none"),
}
PROMISED_TIMES_AS_FAST = 8.0
PROMISED_TIMES_MAGNITUDE = 3.0
PROMISED_MEMORY = 3.0


def network() -> nn.Module:
    """A ResNet-50 with random weights and norm statistics."""
    torch.manual_seed(0)
    return randomise(torchvision("resnet50")())


def measure() -> Iterator[Row]:
    """Half of all channels of a ResNet-50 go."""
    module = network()
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    program = intrafusion.load(module, input_shapes=[(1, *SHAPE)])
    peers = {
        "published Intra-Fusion": lambda: published_intra_fusion.compress(module, SPARSITY, SHAPE),
        "Torch-Pruning, magnitude": lambda: magnitude.prune(module, SPARSITY, "l1", SHAPE),
    }
    _warm_up()
    beside = {name: _peer(run) for name, run in peers.items()}
    for name, (seconds, memory) in beside.items():
        yield _row(name, seconds, memory / size, beside)
    for name, spec in SPECS.items():
        yield _row(f"ours, {name}", *_ours(program, spec, size), beside)


def _row(method: str, seconds: float, memory: float, beside: dict[str, tuple[float, int]]) -> Row:
    published, pruned = (taken for taken, _ in beside.values())
    return {
        "method": method,
        "s": seconds,
        "times as fast as published": published / seconds,
        "times Torch-Pruning's time": seconds / pruned,
        "memory / model": memory,
    }


def _ours(program: Program, spec: CompressionSpec, size: int) -> tuple[float, float]:
    """Seconds until the result is evaluated, and the most memory until then per byte of model."""
    until: list[tuple[float, int]] = []

    def listen(progress: Progress) -> None:
        if progress.step == "evaluate" and not until:
            until.append((time.process_time(), peak_bytes()))

    before, start = resident_bytes(), time.process_time()
    intrafusion.compress(program, spec, progress=listen)
    end, peak = until[0]
    return end - start, (peak - before) / size


def _peer(run: Callable[[], nn.Module]) -> tuple[float, int]:
    """Seconds, and the most memory."""
    before = resident_bytes()
    with timed() as watch:
        run()
    return watch.seconds, peak_bytes() - before


def _warm_up() -> None:
    """What torch and its libraries import and allocate at first use belongs to no method."""
    small = randomise(torchvision("resnet18")())
    shape = (3, 64, 64)
    published_intra_fusion.compress(deepcopy(small), SPARSITY, shape)
    magnitude.prune(small, SPARSITY, "l1", shape)
    program = intrafusion.load(small, input_shapes=[(1, *shape)])
    for spec in SPECS.values():
        intrafusion.compress(program, spec)


def broken(rows: Sequence[Row]) -> list[str]:
    """How much faster than the published code, and how much slower than removing by magnitude."""
    found = {str(row["method"]).removeprefix("ours, "): row for row in rows}
    published, default = found[PUBLISHED], found[DEFAULT]
    faults = []
    if (times := float(published["times as fast as published"])) < PROMISED_TIMES_AS_FAST:
        faults.append(f"the published settings are {times:.1f} times as fast as published")
    if (times := float(default["times Torch-Pruning's time"])) > PROMISED_TIMES_MAGNITUDE:
        faults.append(f"the defaults take {times:.1f} times as long as Torch-Pruning")
    faults += [
        f"{row['method']} holds {row['memory / model']:.1f} times the model"
        for row in (published, default)
        if float(row["memory / model"]) > PROMISED_MEMORY
    ]
    return faults


PART = Part(
    title="A whole compression",
    caption=(
        "A ResNet-50 with random weights loses half of its channels, without samples. Ours: "
        "`intrafusion.compress` of a loaded program until it evaluates the result. Torch-Pruning: "
        "`BasePruner` with the ℓ1 norm, graph included. Memory: the most that is held beyond what "
        "the process held before."
    ),
    measure=measure,
    broken=broken,
)
