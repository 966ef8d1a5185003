"""Samples that are searched for: noise, changed by descent until it brings something about.

Many inputs bring about the same, and most are noise that the network computes other things on than
on data. Descent on layers of noise from coarse to fine moves coarse and fine parts alike: on the
example networks with 70 % of all channels gone that halves what noise loses (see
docs/method-notes.md).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from intrafusion.calibration.made.inputs import Input, drawn
from intrafusion.calibration.made.kind import FEWEST, Kind, Made, Progress
from intrafusion.program import Program

STEPS = 400
RATE = 0.1
"""Adam's first step; it falls to nothing along a cosine."""
TRIAL_STEPS = 30
"""Of the short searches, with few samples, that find out how large inputs are."""

Distance = Callable[[float], float]
"""How far inputs of a size are from the aim."""


class Aim(ABC):
    """What samples are to bring about."""

    @abstractmethod
    def distance(self, inputs: Sequence[Tensor]) -> Tensor:
        """How far `inputs`, one tensor (samples, …) per input of the program, are from it: ()."""


class Searched(Kind):
    """Samples that come as near to an aim as descent takes them.

    Attributes:
        told: whether the distance found is for the report.
    """

    memory = 4 << 30
    told: ClassVar[bool] = False

    @abstractmethod
    def aim(self, program: Program) -> Aim:
        """What the samples are to bring about in `program`."""

    @abstractmethod
    def size(self, of_noise: Distance, after_a_search: Distance) -> float:
        """How large the noise is that the search begins with, from what is found at `SCALES`.

        Rather too large than too small: what shrinks stays different from sample to sample; what
        grows becomes alike.
        """

    def passes(self, program: Program) -> int:
        return 3 * STEPS  # backward costs twice a forward pass

    def make(self, program: Program, count: int, seed: int, progress: Progress) -> Made:
        aim = self.aim(program)

        def of_noise(scale: float) -> float:
            return finite(aim.distance([x.value().detach() for x in few(scale)]))

        def after_a_search(scale: float) -> float:
            return descend(aim, few(scale), TRIAL_STEPS)[1]

        def few(scale: float) -> list[Input]:
            return drawn(program, FEWEST, scale, seed)

        scale = self.size(of_noise, after_a_search)
        samples, distance = descend(aim, drawn(program, count, scale, seed), STEPS, progress)
        return Made(samples, distance if self.told else None)


def descend(
    aim: Aim,
    inputs: Sequence[Input],
    steps: int,
    progress: Progress = lambda done, total: None,
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


def finite(distance: Tensor) -> float:
    """The distance as a number, infinite where it is none."""
    found = float(distance)
    return found if math.isfinite(found) else math.inf
