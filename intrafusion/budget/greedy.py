"""Spending a budget: take away, again and again, what costs much and is missed little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intrafusion.budget.size import Floats, Size

LEAST_SHARE = 0.1
"""No group loses more than nine tenths: that far out, errors to first order say nothing."""


def spend(
    ladders: Sequence[Sequence[int]],
    errors: Sequence[Floats],
    costs: Sequence[tuple[Size, float]],
) -> list[int]:
    """How many units each group keeps so that the network keeps to all budgets.

    Every group starts at the top of its ladder. Of the curves only the lower convex hull counts,
    so that a cheap step behind a dear one is reached; at each turn the group with the least error
    per unit of cost takes the next step. Of several costs each counts by the share of it that has
    yet to go, as penalties do in the greedy method of Toyoda (1975) for several knapsacks.

    Args:
        ladders: for each group the numbers of units it may keep, falling.
        errors: for each group (n + 1,) the error expected with 0, 1, … n units.
        costs: each with what may be spent of it; missed where all groups are at the bottom of
            their ladders.
    """
    steps = [np.array(ladder) for ladder in ladders]
    hulls = [_lower_hull(ladder, own[ladder]) for own, ladder in zip(errors, steps, strict=True)]
    rung = [0] * len(steps)
    kept = np.array([float(ladder[0]) for ladder in steps])
    while over := [(size, now, goal) for size, goal in costs if (now := size(kept)) > goal]:
        slopes = np.sum([size.slopes(kept) * (now - goal) / now**2 for size, now, goal in over], 0)
        prices = {}
        for number, (ladder, hull, at) in enumerate(zip(steps, hulls, rung, strict=True)):
            if at + 1 < len(ladder) and slopes[number] > 0:
                saved = (ladder[at] - ladder[at + 1]) * slopes[number]
                prices[number] = (hull[at + 1] - hull[at]) / saved
        if not prices:
            break
        cheapest = min(prices, key=prices.__getitem__)
        rung[cheapest] += 1
        kept[cheapest] = steps[cheapest][rung[cheapest]]
    return [int(count) for count in kept]


def ladder(units: int, step: int) -> list[int]:
    """What a group of `units` may keep, falling: all of them, or a multiple of `step`."""
    least = max(1, round(LEAST_SHARE * units))
    multiples = range(units // step * step, 0, -step)
    return [units, *(count for count in multiples if least <= count < units)]


def _lower_hull(counts: Floats, errors: Floats) -> Floats:
    """The lower convex hull of the points (counts, errors), at the counts; these fall."""
    corners: list[int] = []
    for point in range(len(counts)):
        while len(corners) > 1 and _is_above(corners[-1], corners[-2], point, counts, errors):
            corners.pop()
        corners.append(point)
    places = np.array(corners)
    hull: Floats = np.interp(-counts, -counts[places], errors[places])
    return hull


def _is_above(middle: int, first: int, last: int, counts: Floats, errors: Floats) -> bool:
    """Whether the middle point lies on or above the line from the first to the last."""
    run, rise = counts[last] - counts[first], errors[last] - errors[first]
    line = errors[first] + rise * (counts[middle] - counts[first]) / run
    return bool(errors[middle] >= line)
