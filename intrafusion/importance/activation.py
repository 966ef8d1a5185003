"""Importance by how strongly a unit is active on samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.importance.context import Context, needs
from intrafusion.importance.norm import l1
from intrafusion.importance.reduction import of_mean_one


@needs("samples")
def activation(group: Group, context: Context) -> Tensor:
    """Mean |a| of a unit's activations on the samples, where weights read them: (n,) scores."""
    return mean_over_readings(group, context, mean_absolute)


def mean_absolute(activations: Tensor) -> Tensor:
    """Mean |a| per unit: (n, …) to (n,)."""
    return activations.flatten(1).abs().mean(1)


def mean_over_readings(
    group: Group, context: Context, statistic: Callable[[Tensor], Tensor]
) -> Tensor:
    """Mean of a statistic over the values that weights read the units from: (n,).

    Each is first scaled to a mean of 1. A group whose units stand in no value, because the
    weights that hold them are computed, is scored by `l1`.
    """
    seen = context.observe(statistic)[group].values()
    if not seen:
        return l1(group, context)
    return torch.stack([of_mean_one(scores) for scores in seen]).mean(0)
