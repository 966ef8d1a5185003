"""Exact transport plans from the units of a group to their targets."""

from __future__ import annotations

import numpy as np
import ot
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from intrafusion.errors import ErrorCode, IntraFusionError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MAX_PIVOTS = 10_000_000
"""Pivots of the network simplex; POT's own default is too few for a thousand units."""


def survivor_plan(cost: Floats, survivors: NDArray[np.int64], units: int) -> Tensor:
    """The optimal plan from `units` units of equal mass to the survivors among them.

    The ground cost must be a metric: then an optimal plan leaves every survivor its own mass
    (a detour through a survivor costs at least as much as the direct way), and only the others
    have to be transported, to the room 1/m − 1/n that is left at each survivor. Where that room
    is a whole number of units, the problem is an assignment.

    Args:
        cost: (n − m, m) cost from each other unit, in ascending order, to each survivor; it is
            used up.
        survivors: (m,) their positions among the units.
        units: n.

    Returns:
        The plan (n, m), sparse: rows sum to 1/n, columns to 1/m.
    """
    n, m = units, len(survivors)
    others = np.setdiff1d(np.arange(n), survivors)
    share, rest = divmod(n - m, m)
    if not others.size:
        sources, targets, amounts = others, others, np.zeros(0)
    elif rest == 0:
        sources, targets = _assigned(cost, share)
        amounts = np.full(n - m, 1 / n)
    else:
        # In units of 1/(n·m) all masses are whole numbers, so nothing is lost to rounding.
        plan = _emd(np.full(n - m, float(m)), np.full(m, float(n - m)), cost)
        sources, targets = plan.nonzero()
        amounts = plan[sources, targets] / (n * m)
    return _sparse(
        np.concatenate([survivors, others[sources]]),
        np.concatenate([np.arange(m), targets]),
        np.concatenate([np.full(m, 1 / n), amounts]),
        (n, m),
    )


def full_plan(cost: Floats, source: Floats, target: Floats) -> Tensor:
    """The optimal plan between any masses, at any cost.

    Args:
        cost: (n, m) from each unit to each target.
        source: (n,) masses μ of the units, of sum 1.
        target: (m,) masses ν of the targets, of sum 1.

    Returns:
        The plan (n, m), sparse: rows sum to μ, columns to ν.
    """
    plan = _emd(source, target, cost)
    sources, targets = plan.nonzero()
    return _sparse(sources, targets, plan[sources, targets], plan.shape)


def _assigned(cost: Floats, share: int) -> tuple[Indices, Indices]:
    """Rows and columns of `cost` that belong together, each column `share` times."""
    # These prices change no assignment's cost against another's, and save the solver half its time.
    cost -= cost.min(1, keepdims=True)
    cost -= cost.min(0)
    sources, slots = linear_sum_assignment(cost if share == 1 else np.repeat(cost, share, axis=1))
    return sources, slots // share


def _sparse(rows: Indices, columns: Indices, values: Floats, shape: tuple[int, int]) -> Tensor:
    places = torch.from_numpy(np.stack([rows, columns]))
    sparse = torch.sparse_coo_tensor(
        places, torch.from_numpy(values), shape, check_invariants=False
    )
    return sparse.coalesce()


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
