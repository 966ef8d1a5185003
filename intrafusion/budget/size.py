"""What a network costs, as a function of how many units each group keeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from intrafusion.channels import Analysis, Group
from intrafusion.evaluation.cost import Length, products

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """A sum of products of lengths, each of which grows linearly with the units kept.

    Attributes:
        base: (lengths,) what does not belong to the groups.
        shares: (lengths, groups) channels per unit.
        terms: (terms, factors) positions of lengths; -1 stands for no further factor.
    """

    base: Floats
    shares: Floats
    terms: NDArray[np.int64]

    def __call__(self, kept: Floats) -> float:
        """The cost with `kept` (groups,) units."""
        return float(self._factors(kept).prod(1).sum())

    def slopes(self, kept: Floats) -> Floats:
        """(groups,) what one unit more of each group would cost at `kept` (groups,)."""
        factors = self._factors(kept)
        slopes = np.zeros(self.shares.shape[1])
        for number in range(self.terms.shape[1]):
            others = np.delete(factors, number, 1).prod(1)
            slopes += others @ self._padded_shares[self.terms[:, number]]
        return slopes

    def _factors(self, kept: Floats) -> Floats:
        lengths = np.append(self.base + self.shares @ kept, 1.0)
        return lengths[self.terms]

    @cached_property
    def _padded_shares(self) -> Floats:
        return np.vstack([self.shares, np.zeros((1, self.shares.shape[1]))])


def units(groups: Sequence[Group]) -> Size:
    """The units of `groups`."""
    count = len(groups)
    return Size(np.zeros(count), np.eye(count), np.arange(count)[:, None])


def parameters(analysis: Analysis, groups: Sequence[Group]) -> Size:
    """Parameter elements."""
    numbers = {group: number for number, group in enumerate(groups)}
    lengths = _Lengths(groups)
    terms = []
    for name in sorted(analysis.program.trainable):
        term = []
        for dim, size in enumerate(analysis.program.tensors[name].shape):
            own: dict[int, int] = defaultdict(int)
            for group, binding in analysis.bindings.get((name, dim), ()):
                if group in numbers:
                    own[numbers[group]] += binding.index.numel()
            term.append(lengths.add(size, own))
        terms.append(term)
    return lengths.size(terms)


def macs(analysis: Analysis, groups: Sequence[Group]) -> Size:
    """Multiply-accumulates of one sample, as `intrafusion.evaluation.macs` counts them."""
    owner = np.full(analysis.units.unit.max() + 1, -1)
    for number, group in enumerate(groups):
        owner[group.units.numpy()] = number
    lengths = _Lengths(groups)
    batch = analysis.program.example_inputs[0].shape[0]
    per_sample = lengths.add(1 / batch, {})
    terms = [
        [per_sample]
        + [lengths.add(int(one), _owners(one, analysis.units.unit, owner)) for one in product]
        for product in products(analysis.walk)
    ]
    return lengths.size(terms)


def _owners(
    length: Length, unit_of_atom: NDArray[np.int64], owner_of_unit: NDArray[np.int64]
) -> dict[int, int]:
    """How many positions along a dimension belong to each group, by its number."""
    dim = length.dim % length.value.rank
    plane = length.value.plane_along(dim)
    if plane is None:
        return {}
    lines = unit_of_atom[np.moveaxis(plane, dim, 0).reshape(plane.shape[dim], -1)]
    if (lines != lines[:, :1]).any():
        return {}  # A line of several units stays as long as one of them does.
    numbers = owner_of_unit[lines[:, 0]]
    found, counts = np.unique(numbers[numbers >= 0], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


class _Lengths:
    """Lengths as they are met; `add` gives each its position."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.units = [len(group) for group in groups]
        self.base: list[float] = []
        self.shares: list[Floats] = []

    def add(self, size: float, positions: dict[int, int]) -> int:
        """`positions` of a length of `size` belong to the groups of these numbers."""
        share = np.zeros(len(self.units))
        for number, count in positions.items():
            share[number] = count / self.units[number]
        self.base.append(size - sum(positions.values()))
        self.shares.append(share)
        return len(self.base) - 1

    def size(self, terms: Iterable[Sequence[int]]) -> Size:
        rows = list(terms)
        table = np.full((len(rows), max(map(len, rows), default=1)), -1)
        for row, term in zip(table, rows, strict=True):
            row[: len(term)] = term
        shares = np.array(self.shares).reshape(-1, len(self.units))
        return Size(np.array(self.base), shares, table)
