"""Importance by the size of a unit's weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from intrafusion.channels import Group
from intrafusion.channels.slices import unit_rows
from intrafusion.importance.context import Context
from intrafusion.importance.reduction import mean_over_weights


def l1(group: Group, context: Context) -> Tensor:
    """Σ|w| over each weight that makes or reads a unit: (n,) scores."""
    return _reduced(group, context, lambda rows: rows.abs().sum(1))


def l2(group: Group, context: Context) -> Tensor:
    """Σw² over each weight that makes or reads a unit: (n,) scores.

    Squared, as in DepGraph (Fang et al., CVPR 2023, eq. 4): then sums over weights are too.
    """
    return _reduced(group, context, lambda rows: rows.square().sum(1))


def linf(group: Group, context: Context) -> Tensor:
    """max|w| over each weight that makes or reads a unit: (n,) scores."""
    return _reduced(group, context, lambda rows: rows.abs().amax(1))


def _reduced(group: Group, context: Context, norm: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean over the weights of `norm` of each unit's row, (n, d) to (n,)."""
    return mean_over_weights(
        group,
        lambda binding: norm(unit_rows(context.tensors[binding.tensor], binding)),
        scaled=context.scaled,
    )
