"""From a budget to the number of units that each group keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intrafusion.budget import ALLOCATIONS
from intrafusion.budget.greedy import ladder, spend
from intrafusion.budget.size import Floats, Size, macs, parameters, units
from intrafusion.channels import Analysis, Group
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.importance.context import Context, Criterion, Need, need_of
from intrafusion.selection import own_sparsities
from intrafusion.spec import CompressionSpec

BISECTIONS = 40


def counts(context: Context, criterion: Criterion, spec: CompressionSpec) -> dict[Group, int]:
    """How many units each group keeps, for the groups that lose some.

    Groups with a sparsity of their own have it. The others keep to the budget together: all lose
    the same share of units, or as much as the allocation says. A group that the allocation cannot
    judge loses the share that would be everyone's.

    Args:
        context: of the program.
        criterion: that scores units.
        spec: budget, allocation, selectors and `round_to` are looked at; its allocation is not
            `auto`.

    Raises:
        IntraFusionError: `NOTHING_TO_PRUNE` if no group would lose a unit; `BUDGET_UNREACHABLE` if
            all that may go is not enough.
    """
    own = own_sparsities(context.analysis, spec)
    if not own:
        raise _nothing(context.analysis, 0)
    problem = _Problem(tuple(own), tuple(own.values()), spec.round_to, *_goal(context, own, spec))
    kind, share = spec.budget
    kept = problem.at(share) if kind == "sparsity" else problem.uniform()
    if spec.allocation != "uniform":
        curves = ALLOCATIONS.get(spec.allocation)(context, criterion)
        kept = problem.allocated({g: c.cpu().numpy() for g, c in curves.items()}, kept)
    found = {group: count for group, count in zip(own, kept, strict=True) if count < len(group)}
    if not found:
        raise _nothing(context.analysis, len(own))
    problem.check(kept, spec)
    return found


def need_of_allocation(name: str) -> Need:
    """What the allocation of this name cannot do without."""
    return "nothing" if name == "uniform" else need_of(ALLOCATIONS.get(name))


@dataclass(frozen=True)
class _Problem:
    """Groups, the share each of them has to lose (None: open), and what they may cost together."""

    groups: tuple[Group, ...]
    shares: tuple[float | None, ...]
    round_to: int
    size: Size
    goal: float

    def at(self, sparsity: float) -> list[int]:
        """What groups keep when the open ones lose that share of their units."""
        kept = []
        for group, share in zip(self.groups, self.shares, strict=True):
            count = _left(group, sparsity if share is None else share)
            kept.append(min(len(group), math.ceil(count / self.round_to) * self.round_to))
        return kept

    def uniform(self) -> list[int]:
        """All open groups lose the same share of units, the smallest that is enough."""
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self.size(np.array(self.at(middle), float)) > self.goal:
                low = middle
            else:
                high = middle
        return self.at(high)

    def allocated(self, curves: Mapping[Group, Floats], uniform: Sequence[int]) -> list[int]:
        """Open groups lose what their error curves say is missed least."""
        ladders, errors = [], []
        for group, share, count in zip(self.groups, self.shares, uniform, strict=True):
            judged = share is None and group in curves
            ladders.append(ladder(len(group), self.round_to) if judged else [count])
            errors.append(curves[group] if judged else np.zeros(len(group) + 1))
        return spend(ladders, errors, self.size, self.goal)

    def check(self, kept: Sequence[int], spec: CompressionSpec) -> None:
        """Raise `BUDGET_UNREACHABLE` if a goal of parameters or MACs is missed."""
        kind, _ = spec.budget
        cost = self.size(np.array(kept, float))
        if kind != "sparsity" and cost > self.goal:
            whole = self.size(np.array([float(len(group)) for group in self.groups]))
            raise IntraFusionError(
                ErrorCode.BUDGET_UNREACHABLE,
                f"The smallest network that these groups allow has {cost / whole:.1%} of the "
                f"original's {kind}; {self.goal / whole:.1%} were asked for.",
                "Ask for more, select more groups, or lower round_to.",
                least=cost / whole,
            )


def _goal(
    context: Context, own: Mapping[Group, float | None], spec: CompressionSpec
) -> tuple[Size, float]:
    """What is counted, and how much of it may be left."""
    groups = tuple(own)
    kind, share = spec.budget
    if kind == "sparsity":
        size = units(groups)
        return size, sum(_left(group, share if one is None else one) for group, one in own.items())
    size = {"parameters": parameters, "macs": macs}[kind](context.analysis, groups)
    return size, share * size(np.array([float(len(group)) for group in groups]))


def _left(group: Group, sparsity: float) -> int:
    return max(1, len(group) - round(len(group) * sparsity))


def _nothing(analysis: Analysis, selected: int) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.NOTHING_TO_PRUNE,
        f"No group of units would lose any: {len(analysis.groups)} groups were found, "
        f"{selected} of them are selected.",
        "`intrafusion inspect` shows the groups and what is frozen; raise the sparsity, lower "
        "round_to, or widen include and exclude.",
        groups=[group.name for group in analysis.groups],
    )
