"""Samples out of the network itself, where nobody has any.

A batch norm remembers the mean and the variance of everything it saw in training. Inputs under
which every batch norm sees these again stand in for the data that is gone (Yin et al., Dreaming
to Distill, CVPR 2020).

Many inputs have the same statistics, and most are noise that the network computes other things on
than on data. What people record changes slowly from place to place, so an input is sought as a sum
of layers from coarse to fine, each coarser one half as long per side. Descent then moves
coarse and fine parts alike: on the example networks with 70 % of all channels gone that halves
what noise loses (see docs/method-notes.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from intrafusion.batches import samples_at_a_time
from intrafusion.channels.walk import walk
from intrafusion.effort import affordable_times
from intrafusion.evaluation.cost import macs
from intrafusion.program import Program
from intrafusion.program.nodes import arguments, name_of, tensor_name
from intrafusion.program.precision import is_real

SAMPLES, FEWEST = 192, 16
"""So many are made, or as many as are a matter of minutes and memory bears. Few are far better than
none: fashion_resnet with half of its channels loses 4 points with 16, and 75 with none."""
STEPS = 400
RATE = 0.1
"""Adam's first step; it falls to nothing along a cosine."""
LAYERS = 4
"""An image is a sum of this many layers, one as large as itself and the others each half as
large as the one before."""
START = 0.3
"""Standard deviation of every layer at first."""
SCALES = tuple(2.0**power for power in range(-8, 11))
"""Some networks take pixels of 0 … 1, some of 0 … 255: noise of each size is looked at first."""
TRIED, TRIAL_STEPS = 7, 30
"""From the size of noise that comes nearest and the next larger ones, so many in all, a short
search is made: noise that is too small is near and leads nowhere."""
ABOVE = 4.0
"""The search begins so many times as large as the short one that came nearest. What shrinks stays
different from sample to sample; what grows becomes alike."""
MEMORY = 4 << 30
"""Bytes of activations that may be held."""

_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}
"""How a layer is brought to the size of the input, by the input's rank."""


@dataclass(frozen=True)
class Inversion:
    """Synthesised samples.

    Attributes:
        samples: one tensor per input of the program, (samples, …).
        distance: how far the statistics under them are from those remembered: per batch norm the
            mean over channels of the squared difference of the means, relative to the variance,
            and of the squared relative difference of the standard deviations; averaged.
    """

    samples: tuple[Tensor, ...]
    distance: float


def obstacle(program: Program) -> str:
    """Why `program` cannot be inverted, in words that follow "because"; empty if it can."""
    if not _norms(program):
        return "the network has no batch norm that remembers its data"
    if not all(is_real(x) for x in program.example_inputs):
        return "its inputs are not real numbers, and cannot be found by descent"
    return ""


def is_affordable(program: Program) -> bool:
    """Whether inverting `program` is a matter of minutes where it is."""
    return _affordable_samples(program) >= FEWEST


def _affordable_samples(program: Program) -> int:
    passes = 3 * STEPS  # backward costs twice a forward pass
    return min(SAMPLES, affordable_times(passes * macs(program), program.device))


def invert(
    program: Program,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inversion:
    """Find inputs under which the batch norms of `program` see what they remember.

    Args:
        program: with batch norms, in float32 or float64; see `obstacle`.
        seed: of the noise that the search starts from.
        progress: called with the steps done and their total.
    """
    watch = _Watch(program)
    held = samples_at_a_time(program, walk(program), MEMORY)
    count = max(FEWEST, min(held, _affordable_samples(program)))
    scale = ABOVE * _nearest_scale(program, watch, seed)
    return _descend(watch, _layered(program, count, scale, seed), STEPS, progress)


def _nearest_scale(program: Program, watch: _Watch, seed: int) -> float:
    """The size of inputs from which a short search with few samples comes nearest."""
    noise = {scale: watch.distance_of(_layered(program, FEWEST, scale, seed)) for scale in SCALES}
    first = SCALES.index(min(noise, key=noise.__getitem__))
    short = {
        scale: _descend(watch, _layered(program, FEWEST, scale, seed), TRIAL_STEPS).distance
        for scale in SCALES[first : first + TRIED]
    }
    return min(short, key=short.__getitem__)


def _descend(
    watch: _Watch,
    inputs: Sequence[_Layered],
    steps: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inversion:
    """Change `inputs` by so many steps of Adam, and keep the nearest they came."""
    optimiser = torch.optim.Adam([layer for x in inputs for layer in x.layers], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, found = math.inf, tuple(x.value() for x in inputs)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            samples = tuple(x.value() for x in inputs)
            loss = watch.distance(samples)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        if loss < best:  # never true of NaN
            best, found = float(loss.detach()), samples
        optimiser.step()
        schedule.step()
        progress(step, steps)
    return Inversion(tuple(x.detach() for x in found), best)


def _layered(program: Program, count: int, scale: float, seed: int) -> list[_Layered]:
    """Noise of a size for every input of `program`."""
    generator = torch.Generator().manual_seed(seed)
    return [_Layered(x, count, scale, generator) for x in program.example_inputs]


class _Layered:
    """A batch of inputs as a sum of layers, which are what the search changes.

    `scale` is what stands for 1 in the layers.
    """

    def __init__(
        self, example: Tensor, count: int, scale: float, generator: torch.Generator
    ) -> None:
        self._scale, self._size = scale, example.shape[2:]
        halvings = range(LAYERS if example.dim() in _MODES else 1)
        self._mode = _MODES.get(example.dim(), "")
        shapes = dict.fromkeys(
            (count, *example.shape[1:2], *(max(1, side >> halving) for side in self._size))
            for halving in halvings
        )
        self.layers = [
            (torch.randn(shape, generator=generator) * START).to(example).requires_grad_()
            for shape in shapes
        ]

    def value(self) -> Tensor:
        """(count, …) as the program takes it."""
        total, *coarser = self.layers
        for layer in coarser:
            wide: Tensor = nn.functional.interpolate(layer, size=self._size, mode=self._mode)
            total = total + wide
        return total * self._scale


class _Watch(fx.Interpreter):
    """Runs a program and compares what each batch norm sees with what it remembers."""

    def __init__(self, program: Program) -> None:
        network = program.network()
        super().__init__(network.requires_grad_(requires_grad=False))
        self._tensors = program.tensors
        self._norms = _norms(program)
        self._distances: list[Tensor] = []

    def distance(self, inputs: Sequence[Tensor]) -> Tensor:
        """See `Inversion.distance`."""
        self._distances = []
        self.run(*inputs)
        return torch.stack(self._distances).mean()

    @torch.no_grad()
    def distance_of(self, inputs: Sequence[_Layered]) -> float:
        """The distance with `inputs` as they are; infinite where it is no number."""
        found = float(self.distance([x.value() for x in inputs]))
        return found if math.isfinite(found) else math.inf

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self._norms:
            self._distances.append(self._distance(n, self.env[n.all_input_nodes[0]]))
        return super().run_node(n)

    def _distance(self, norm: fx.Node, value: Tensor) -> Tensor:
        mean, variance = (self._tensors[str(tensor_name(norm, position))] for position in (3, 4))
        others = [dim for dim in range(value.dim()) if dim != 1]
        seen_variance, seen_mean = torch.var_mean(value, others, correction=0)
        epsilon = arguments(norm)[7]
        spread, seen_spread = (variance + epsilon).sqrt(), (seen_variance + epsilon).sqrt()
        shift, widening = (seen_mean - mean) / spread, seen_spread / spread - 1
        return torch.stack([shift, widening]).square().sum(0).mean()


def _norms(program: Program) -> set[str]:
    """The names of the nodes that are batch norms with statistics of their own."""
    return {
        node.name
        for node in program.graph.nodes
        if node.op == "call_function"
        and name_of(node) == "batch_norm"
        and tensor_name(node, 3)
        and tensor_name(node, 4)
    }
