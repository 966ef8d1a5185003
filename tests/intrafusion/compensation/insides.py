"""What two programs have at their landmarks."""

from __future__ import annotations

from torch import Tensor

from intrafusion.compensation.landmarks import landmarks, with_insides
from intrafusion.program import Program


def insides(program: Program, compressed: Program, samples: Tensor) -> list[tuple[Tensor, Tensor]]:
    """At every landmark what both have: the original in the channels that are left."""
    marks = landmarks(program, compressed)
    before = with_insides(program, [mark.original for mark in marks])
    after = with_insides(compressed, [mark.compressed for mark in marks])
    (_, wanted), (_, found) = before(samples), after(samples)
    return [
        (x.index_select(mark.dim, mark.staying), y)
        for mark, x, y in zip(marks, wanted, found, strict=True)
    ]
