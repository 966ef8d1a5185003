"""From a budget to the number of units that each group keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intrafusion.budget import ALLOCATIONS
from intrafusion.budget.greedy import ladder, spend
from intrafusion.budget.rounding import multiples
from intrafusion.budget.size import Floats, Size, macs, parameters, units
from intrafusion.channels import Group
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.importance.context import Context, Criterion, Need, need_of
from intrafusion.selection import check_any_selected, nothing_to_prune, own_sparsities
from intrafusion.spec import CompressionSpec, Cost

BISECTIONS = 40


@dataclass(frozen=True)
class Allocator:
    """Says how many units the groups of a program keep, for any budgets.

    Groups with a sparsity of their own have it. The others keep to all budgets together: all lose
    the same share of units, or as much as the allocation says. A group that the allocation cannot
    judge loses the share that would be everyone's. What allocations measure is measured once.

    Attributes:
        context: of the program.
        criterion: that scores units.
        spec: allocation, selectors and `round_to` are looked at; its allocation is not `auto`.
    """

    context: Context
    criterion: Criterion
    spec: CompressionSpec

    def counts(self, costs: Mapping[Cost, float]) -> dict[Group, int]:
        """How many units each group keeps, for the groups that lose some.

        Args:
            costs: the share of each that may be left; of units the share that goes.

        Raises:
            IntraFusionError: `NOTHING_TO_PRUNE` if no group would lose a unit;
                `BUDGET_UNREACHABLE` if all that may go is not enough.
        """
        check_any_selected(self.context.analysis, self.spec)
        found = self.nearest(costs)
        if not found:
            raise nothing_to_prune(self.context.analysis, len(self._own))
        for kind, share in costs.items():
            if kind == "sparsity":
                continue
            left = self._share(kind, found)
            if left > share:
                raise IntraFusionError(
                    ErrorCode.BUDGET_UNREACHABLE,
                    f"The smallest network that these groups allow has {left:.1%} of the "
                    f"original's {kind}; {share:.1%} were asked for.",
                    "Ask for more, select more groups, or lower round_to.",
                    least=left,
                )
        return found

    def nearest(self, costs: Mapping[Cost, float]) -> dict[Group, int]:
        """The same, but {} if nothing goes, and the nearest to budgets that cannot be met."""
        kept = self._at(max(self._even_sparsity(*cost) for cost in costs.items()))
        if self.spec.allocation != "uniform":
            kept = self._allocated(costs, kept)
        pairs = zip(self._own, kept, strict=True)
        return {group: count for group, count in pairs if count < len(group)}

    def least(self, kind: Cost) -> float:
        """The smallest share of `kind`, parameters or MACs, that can be left."""
        return self._share(kind, self.nearest({kind: 0.0}))

    @cached_property
    def _own(self) -> dict[Group, float | None]:
        return own_sparsities(self.context.analysis, self.spec)

    @cached_property
    def _multiples(self) -> dict[Group, int]:
        return multiples(self.context.analysis, self.spec)

    @cached_property
    def _curves(self) -> dict[Group, Floats]:
        curves = ALLOCATIONS.get(self.spec.allocation)(self.context, self.criterion)
        return {group: curve.cpu().numpy() for group, curve in curves.items()}

    @cached_property
    def _sizes(self) -> dict[Cost, Size]:
        return {}

    def _size(self, kind: Cost) -> Size:
        if kind not in self._sizes:
            analysis, groups = self.context.analysis, tuple(self._own)
            self._sizes[kind] = (
                units(groups) if kind == "sparsity" else _COUNTED[kind](analysis, groups)
            )
        return self._sizes[kind]

    def _whole(self, kind: Cost) -> float:
        return self._size(kind)(np.array([float(len(group)) for group in self._own]))

    def _share(self, kind: Cost, counts: Mapping[Group, int]) -> float:
        kept = np.array([float(counts.get(group, len(group))) for group in self._own])
        return self._size(kind)(kept) / self._whole(kind)

    def _at(self, sparsity: float) -> list[int]:
        """What groups keep when the open ones lose that share of their units."""
        kept = []
        for group, own in self._own.items():
            step = self._multiples[group]
            count = _left(group, sparsity if own is None else own)
            kept.append(min(len(group), math.ceil(count / step) * step))
        return kept

    def _goal(self, kind: Cost, share: float) -> float:
        if kind != "sparsity":
            return share * self._whole(kind)
        return sum(_left(group, share if own is None else own) for group, own in self._own.items())

    def _even_sparsity(self, kind: Cost, share: float) -> float:
        """The smallest share of units that is enough when all open groups lose it."""
        if kind == "sparsity":
            return share
        size, goal = self._size(kind), self._goal(kind, share)
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if size(np.array(self._at(middle), float)) > goal:
                low = middle
            else:
                high = middle
        return high

    def _allocated(self, costs: Mapping[Cost, float], uniform: Sequence[int]) -> list[int]:
        """Open groups lose what their error curves say is missed least."""
        ladders, errors = [], []
        for (group, own), count in zip(self._own.items(), uniform, strict=True):
            judged = own is None and group in self._curves
            ladders.append(ladder(len(group), self._multiples[group]) if judged else [count])
            errors.append(self._curves[group] if judged else np.zeros(len(group) + 1))
        budgets = [(self._size(kind), self._goal(kind, share)) for kind, share in costs.items()]
        return spend(ladders, errors, budgets)


def need_of_allocation(name: str) -> Need:
    """What the allocation of this name cannot do without."""
    return "nothing" if name == "uniform" else need_of(ALLOCATIONS.get(name))


_COUNTED = {"parameters": parameters, "macs": macs}


def _left(group: Group, sparsity: float) -> int:
    return max(1, len(group) - round(len(group) * sparsity))
