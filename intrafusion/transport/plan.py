"""Exact transport plans from the units of a group to their targets."""

from __future__ import annotations

import numpy as np
import ot
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from intrafusion.errors import ErrorCode, IntraFusionError

Floats = NDArray[np.float64]

MAX_PIVOTS = 10_000_000
"""Pivots of the network simplex; POT's own default is too few for a thousand units."""


def survivor_plan(cost: Floats, survivors: NDArray[np.int64], units: int) -> Floats:
    """The optimal plan from `units` units of equal mass to the survivors among them.

    The ground cost must be a metric: then an optimal plan leaves every survivor its own mass
    (a detour through a survivor costs at least as much as the direct way), and only the others
    have to be transported, to the room 1/m − 1/n that is left at each survivor. Where that room
    is a whole number of units, the problem is an assignment.

    Args:
        cost: (n − m, m) cost from each other unit, in ascending order, to each survivor.
        survivors: (m,) their positions among the units.
        units: n.

    Returns:
        The plan (n, m): rows sum to 1/n, columns to 1/m.
    """
    n, m = units, len(survivors)
    plan = np.zeros((n, m))
    plan[survivors, np.arange(m)] = 1 / n
    others = np.setdiff1d(np.arange(n), survivors)
    if not others.size:
        return plan
    share, rest = divmod(n - m, m)
    if rest == 0:
        sources, slots = linear_sum_assignment(np.repeat(cost, share, axis=1))
        plan[others[sources], slots // share] = 1 / n
        return plan
    # In units of 1/(n·m) all masses are whole numbers, so nothing is lost to rounding.
    source = np.full(n - m, float(m))
    room = np.full(m, float(n - m))
    plan[others] = _emd(source, room, cost) / (n * m)
    return plan


def full_plan(cost: Floats, source: Floats, target: Floats) -> Floats:
    """The optimal plan between any masses, at any cost.

    Args:
        cost: (n, m) from each unit to each target.
        source: (n,) masses μ of the units, of sum 1.
        target: (m,) masses ν of the targets, of sum 1.

    Returns:
        The plan (n, m): rows sum to μ, columns to ν.
    """
    return _emd(source, target, cost)


def _emd(source: Floats, target: Floats, cost: Floats) -> Floats:
    plan, log = ot.emd(source, target, cost, numItermax=MAX_PIVOTS, log=True)
    if log["warning"] is not None:
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            f"No transport plan of {len(source)} units to {len(target)} was found: "
            f"{log['warning']}",
            "Use uniform masses and the target 'most_important', or exclude this group.",
        )
    result: Floats = plan
    return result
