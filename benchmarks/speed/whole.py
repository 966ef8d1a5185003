"""A whole compression without samples, beside the published code and beside pruning by magnitude.

Graph capture is left out on our side, and the measuring of both networks on either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

import intrafusion
from benchmarks.architectures import randomise, torchvision
from benchmarks.peers import magnitude, published_intra_fusion
from benchmarks.speed.memory import held, peak
from benchmarks.speed.part import Part, Row, now, timed
from benchmarks.speed.solver import solving
from benchmarks.zoo.processes import in_own_process
from intrafusion import CompressionSpec
from intrafusion.report import Progress

SHAPE = (3, 224, 224)
SPARSITY = 0.5
PEERS = "published Intra-Fusion", "Torch-Pruning, magnitude"
PUBLISHED, DEFAULT = "ours, published settings", "ours, defaults"
LIMIT_SECONDS = 600
PROMISED_TIMES_AS_FAST = 8.0
PROMISED_TIMES_MAGNITUDE = 3.0
PROMISED_MEMORY = 3.0


def network() -> nn.Module:
    """A ResNet-50 with random weights and norm statistics."""
    torch.manual_seed(0)
    return randomise(torchvision("resnet50")())


def measure(device: torch.device) -> Iterator[Row]:
    """Half of all channels of a ResNet-50 go, by each method in a process of its own."""
    taken = {
        name: in_own_process(partial(measured, name, str(device)), LIMIT_SECONDS) for name in RUNS
    }
    published, pruned = taken[PEERS[0]], taken[PEERS[1]]
    for name, took in taken.items():
        row = {
            "method": name,
            "s": took.seconds,
            "times as fast as published": published.seconds / took.seconds,
            "times Torch-Pruning's time": took.seconds / pruned.seconds,
            "memory / model": took.memory,
        }
        yield row if device.type == "cpu" else {**row, "solver's share": took.solver / took.seconds}


@dataclass(frozen=True)
class Took:
    """What one method took.

    Attributes:
        seconds: see `benchmarks.speed.part.Stopwatch`.
        memory: the most held beyond what was held before, in multiples of the model.
        solver: wall seconds of exact plans.
    """

    seconds: float
    memory: float
    solver: float


def measured(name: str, device: str) -> Took:
    """The method of that name, in this process."""
    there = torch.device(device)
    first, sides = randomise(torchvision("resnet18")()), (3, 64, 64)
    RUNS[name](first.to(there), sides, there)()  # first use belongs to no method
    module = network().to(there)
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    run = RUNS[name](module, SHAPE, there)
    before = held(there)
    with solving() as solver:
        seconds, most = run()
    return Took(seconds, (most - before) / size, solver.seconds)


Run = Callable[[], tuple[float, int]]
"""Gives the seconds it took, and the most memory held meanwhile."""


def _ours(
    spec: CompressionSpec, module: nn.Module, shape: Sequence[int], device: torch.device
) -> Run:
    """All steps from the fold of batch norms until the result is evaluated."""
    program = intrafusion.load(module, input_shapes=[(1, *shape)]).to(device)

    def run() -> tuple[float, int]:
        seconds, began, until = 0.0, 0.0, list[tuple[float, int]]()

        def listen(progress: Progress) -> None:
            nonlocal seconds, began
            if progress.step == "evaluate" and not until:
                until.append((seconds, peak(device)))
            elif progress.done == 0:
                began = now(device)
            elif progress.done == progress.total:
                seconds += now(device) - began

        intrafusion.compress(program, spec, device=device, progress=listen)
        return until[0]

    return run


def _peer(
    compress: Callable[[nn.Module, Sequence[int]], nn.Module],
    module: nn.Module,
    shape: Sequence[int],
    device: torch.device,
) -> Run:
    def run() -> tuple[float, int]:
        with timed(device) as watch:
            compress(module, shape)
        return watch.seconds, peak(device)

    return run


def _published(module: nn.Module, shape: Sequence[int]) -> nn.Module:
    return published_intra_fusion.compress(module, SPARSITY, shape)


def _magnitude(module: nn.Module, shape: Sequence[int]) -> nn.Module:
    return magnitude.prune(module, SPARSITY, "l1", shape)


RUNS: Mapping[str, Callable[[nn.Module, Sequence[int], torch.device], Run]] = {
    PEERS[0]: partial(_peer, _published),
    PEERS[1]: partial(_peer, _magnitude),
    PUBLISHED: partial(_ours, CompressionSpec(sparsity=SPARSITY, method="intra-fusion-published")),
    DEFAULT: partial(_ours, CompressionSpec(sparsity=SPARSITY, compensation="none")),
}


def broken(rows: Sequence[Row]) -> list[str]:
    """How much faster than the published code, and how much slower than removing by magnitude."""
    found = {row["method"]: row for row in rows}
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
        "the steps of `intrafusion.compress` from the fold of batch norms until the result is "
        "evaluated, without the one forward pass that shows that the original works. "
        "Torch-Pruning: `BasePruner` with the ℓ1 norm, graph included. Memory: the most that is "
        "held beyond what the process held before."
    ),
    elsewhere=(
        "There the network is on the device before and after, memory is the device's, and the "
        "solver's share is of the time that exact plans take, for which the device waits."
    ),
    measure=measure,
    broken=broken,
)
