"""Samples out of the network itself, where nobody has any.

A batch norm remembers the mean and the variance of everything it saw in training. Inputs under
which every batch norm sees these again stand in for the data that is gone (Yin et al., Dreaming
to Distill, CVPR 2020). A classifier without batch norms is at least sure of what it knows: there
inputs are sought that make it sure of its classes, as many of each.

Many inputs do either, and most are noise that the network computes other things on than on data.
What people record changes slowly from place to place, so an input is sought as a sum of layers from
coarse to fine, each coarser one half as long per side. Descent then moves coarse and fine parts
alike: on the example networks with 70 % of all channels gone that halves what noise loses (see
docs/method-notes.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from intrafusion.batches import samples_at_a_time
from intrafusion.calibration.aims import Aim, Statistics, aim_of, finite
from intrafusion.channels.walk import Walk, walk
from intrafusion.effort import affordable_times
from intrafusion.evaluation.cost import macs
from intrafusion.program import Program
from intrafusion.program.nodes import name_of
from intrafusion.program.precision import is_real

SAMPLES, FEWEST = 192, 16
"""So many are made, or as many as are a matter of minutes and memory bears. Few are far better than
none: fashion_resnet with half of its channels loses 4 points with 16, and 75 with none."""
ROWS_PER_INPUT, MOST = 4, 768
"""Without batch norms there may be layers that read each sample at one place, and learn one row
from it: there are so many samples for each input of the widest, up to a number. The MLP of the
examples at 70 % loses 26 points with 192 and 13 with 768; more give nothing."""
STEPS = 400
RATE = 0.1
"""Adam's first step; it falls to nothing along a cosine."""
LAYERS = 4
"""An image is a sum of this many layers, one as large as itself and the others each half as
large as the one before."""
START = 0.3
"""Standard deviation of every layer at first."""
TRIAL_STEPS = 30
"""Of the short searches, with few samples, that find out how large inputs are."""
MEMORY = 4 << 30
"""Bytes of activations that may be held."""

_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}
"""How a layer is brought to the size of the input, by the input's rank."""


@dataclass(frozen=True)
class Inversion:
    """Synthesised samples.

    Attributes:
        samples: one tensor per input of the program, (samples, …).
        statistics_error: how far the statistics under them are from those that the batch norms
            remember, see `intrafusion.calibration.aims.Statistics`; None where there are none.
    """

    samples: tuple[Tensor, ...]
    statistics_error: float | None


def obstacle(program: Program) -> str:
    """Why `program` cannot be inverted, in words that follow "because"; empty if it can."""
    if not all(is_real(x) for x in program.example_inputs):
        return "its inputs are not real numbers, and cannot be found by descent"
    if aim_of(program) is None:
        return (
            "the network has neither a batch norm that remembers its data nor class scores "
            "(samples, classes) to be sure of"
        )
    return ""


def is_affordable(program: Program) -> bool:
    """Whether inverting `program` is a matter of minutes where it is."""
    return _affordable_samples(program) >= FEWEST


def _affordable_samples(program: Program) -> int:
    passes = 3 * STEPS  # backward costs twice a forward pass
    return affordable_times(passes * macs(program), program.device)


def _wanted_samples(aim: Aim, walked: Walk) -> int:
    if isinstance(aim, Statistics):
        return SAMPLES
    read = [
        walked.values[node.all_input_nodes[0]].shape
        for node in walked.values
        if node.op == "call_function" and name_of(node) == "linear"
    ]
    widest = max((shape[1] for shape in read if len(shape) == 2), default=0)
    return min(MOST, max(SAMPLES, ROWS_PER_INPUT * widest))


def invert(
    program: Program,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inversion:
    """Find inputs under which the batch norms of `program` see what they remember.

    Without batch norms, inputs that make it sure of its classes.

    Args:
        program: in float32 or float64, with no `obstacle`.
        seed: of the noise that the search starts from.
        progress: called with the steps done and their total.
    """
    make = aim_of(program)
    assert make is not None, "see `obstacle`"
    aim = make(program)

    def of_noise(scale: float) -> float:
        return finite(aim.distance([x.value().detach() for x in few(scale)]))

    def after_a_search(scale: float) -> float:
        return _descend(aim, few(scale), TRIAL_STEPS)[1]

    def few(scale: float) -> list[_Layered]:
        return _layered(program, FEWEST, scale, seed)

    scale = aim.above * aim.size(of_noise, after_a_search)
    walked = walk(program)
    held = samples_at_a_time(program, walked, MEMORY)
    count = max(FEWEST, min(held, _affordable_samples(program), _wanted_samples(aim, walked)))
    samples, distance = _descend(aim, _layered(program, count, scale, seed), STEPS, progress)
    return Inversion(samples, distance if isinstance(aim, Statistics) else None)


def _descend(
    aim: Aim,
    inputs: Sequence[_Layered],
    steps: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[tuple[Tensor, ...], float]:
    """Change `inputs` by so many steps of Adam: the nearest samples on the way, and how near."""
    optimiser = torch.optim.Adam([layer for x in inputs for layer in x.layers], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, found = math.inf, tuple(x.value() for x in inputs)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            samples = tuple(x.value() for x in inputs)
            loss = aim.distance(samples)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        if loss < best:  # never true of NaN
            best, found = float(loss.detach()), samples
        optimiser.step()
        schedule.step()
        progress(step, steps)
    return tuple(x.detach() for x in found), best


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
