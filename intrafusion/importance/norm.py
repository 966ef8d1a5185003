"""Importance by the size of a unit's weights."""

from __future__ import annotations

from torch import Tensor

from intrafusion.channels import Group
from intrafusion.channels.slices import unit_rows
from intrafusion.importance.context import Context
from intrafusion.importance.reduction import mean_over_weights


def l1(group: Group, context: Context) -> Tensor:
    """Σ|w| over each weight that makes or reads a unit: (n,) scores."""
    return mean_over_weights(
        group, lambda binding: unit_rows(context.tensors[binding.tensor], binding).abs().sum(1)
    )


def l2(group: Group, context: Context) -> Tensor:
    """Σw² over each weight that makes or reads a unit: (n,) scores.

    Squared, as in DepGraph (Fang et al., CVPR 2023, eq. 4): then sums over weights are too.
    """
    return mean_over_weights(
        group, lambda binding: unit_rows(context.tensors[binding.tensor], binding).square().sum(1)
    )


def linf(group: Group, context: Context) -> Tensor:
    """max|w| over each weight that makes or reads a unit: (n,) scores."""
    return mean_over_weights(
        group, lambda binding: unit_rows(context.tensors[binding.tensor], binding).abs().amax(1)
    )
