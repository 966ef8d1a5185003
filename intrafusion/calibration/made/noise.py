"""Noise and random ids, where nothing in a network says what its inputs are like.

How large noise should be, the network tells all the same. What is too small vanishes beside its
biases and positions, and every sample comes out the same; what is far too large drowns them. So
noise of each size is put in, and it is looked at how much of the outputs differs from sample to
sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from intrafusion.calibration.made.inputs import drawn, has_real, kept
from intrafusion.calibration.made.kind import FEWEST, SCALES, Kind, Made, Progress
from intrafusion.program import Program
from intrafusion.program.precision import is_real

ABOVE = 16.0
"""Noise is so many times as large as the least of which half as much differs as ever does."""


class Noise(Kind):
    """Real numbers are layers of noise, ids any rows of the tables that they address."""

    name = "noise"
    loss = (
        "nothing in the network says what they are like: they are noise or random ids. A few "
        "unlabelled samples preserve far more."
    )

    def fits(self, program: Program) -> bool:
        return len(kept(program)) < len(program.example_inputs)

    def passes(self, program: Program) -> int:
        return 1

    def make(self, program: Program, count: int, seed: int, progress: Progress) -> Made:
        scale = ABOVE * audible(program, seed) if has_real(program) else 1.0
        samples = tuple(x.value().detach() for x in drawn(program, count, scale, seed))
        progress(1, 1)
        return Made(samples)


def audible(program: Program, seed: int = 0) -> float:
    """The least of `SCALES` at which half as much of the outputs differs as at any."""
    differing = {}
    for scale in SCALES:
        samples = [x.value().detach() for x in drawn(program, FEWEST, scale, seed)]
        differing[scale] = share_differing(program.outputs(*samples))
    half = max(differing.values()) / 2
    return next(scale for scale, share in differing.items() if share >= half)


def share_differing(outputs: Sequence[object]) -> float:
    """The share of the mean square of outputs (samples, …) that differs from sample to sample.

    Averaged over the outputs that are real numbers; 0 where there are none, or no finite ones.
    """
    shares = [_share(output) for output in outputs if is_real(output)]
    return sum(shares) / max(1, len(shares))


def _share(output: Tensor) -> float:
    share = float(output.var(0, correction=0).mean() / output.square().mean())
    return share if math.isfinite(share) else 0.0
