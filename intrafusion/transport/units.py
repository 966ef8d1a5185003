"""The units of a group as vectors that never stand in memory in one piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from intrafusion.channels import Binding, Group
from intrafusion.channels.slices import strips, unit_rows

DIMENSIONS = 1024
"""About so many dimensions are brought together at a time."""
SHORTEST = 1e-12
"""What is shorter counts as a vector of zeros, and stays one."""


@dataclass(frozen=True)
class Units:
    """n vectors of length 1 and d dimensions.

    Attributes:
        held: what makes up the vectors, as parameters and where the units stand in them.
        lengths: (n, 1) what they are divided by.
        dimensions: d.
    """

    held: Sequence[tuple[Tensor, Binding]]
    lengths: Tensor
    dimensions: int

    @classmethod
    def in_parameters(cls, held: Sequence[tuple[Tensor, Binding]]) -> Units:
        """What each unit has in these parameters, one after the other, scaled to a length of 1."""
        squares = torch.zeros(len(held[0][1].index), 1, dtype=torch.float64)
        squares, dimensions = squares.to(held[0][0].device), 0
        for tensor, binding in held:
            for rows in _blocks(tensor, binding):
                squares += rows.square().sum(1, keepdim=True)
                dimensions += rows.shape[1]
        return cls(held, squares.sqrt().clamp_min(SHORTEST).float(), dimensions)

    def __len__(self) -> int:
        return len(self.lengths)

    def blocks(self) -> Iterator[Tensor]:
        """All vectors, some of their dimensions after the other: (n, …) each, float32."""
        for tensor, binding in self.held:
            for rows in _blocks(tensor, binding):
                yield rows / self.lengths

    def vectors(self) -> Tensor:
        """All vectors in one piece after all: (n, d)."""
        return torch.cat(list(self.blocks()), 1)


def units_of(group: Group, tensors: Mapping[str, Tensor], trainable: Set[str]) -> Units:
    """Each unit of `group` as one vector of length 1.

    The concatenation of all the parameters that make, hold and read the unit (Theus et al.,
    ICLR 2024, §3.2), biases included. A unit of zeros stays a vector of zeros.

    Args:
        group: whose units.
        tensors: of the program.
        trainable: the names of those that count.
    """
    return Units.in_parameters(
        [(tensors[b.tensor], b) for b in group.bindings if b.tensor in trainable]
    )


def _blocks(tensor: Tensor, binding: Binding) -> Iterator[Tensor]:
    """What `tensor` holds for each unit, (n, …), in float32 and not too much at once."""
    for strip in strips(tensor, binding.dim, DIMENSIONS * len(binding.index)):
        yield unit_rows(strip, binding).float()
