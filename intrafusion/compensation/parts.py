"""The samples in parts of a size that memory bears, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from intrafusion.batches import held_out

HOLDOUT = 10
"""One sample in so many is kept out of the fit, to tell whether it holds elsewhere."""


@dataclass(frozen=True)
class Part:
    """Some of the samples, which go through the programs together.

    Attributes:
        numbers: (size,) of the samples.
        held_out: whether they are kept out of the fit.
        share: of all samples.
    """

    numbers: Tensor
    held_out: bool
    share: float

    def of(self, samples: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The samples themselves, one tensor per input."""
        return tuple(x[self.numbers.to(x.device)] for x in samples)


def parts(total: int, size: int) -> tuple[Part, ...]:
    """`total` samples in parts of at most `size`; those kept out have parts of their own, last."""
    numbers = torch.arange(total)
    held = held_out(total, HOLDOUT)
    return tuple(
        Part(some, kept_out, len(some) / total)
        for kept_out in (False, True)
        for some in torch.split(numbers[held == kept_out], size)
        if len(some)
    )
