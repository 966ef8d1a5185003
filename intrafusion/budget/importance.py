"""Allocation by comparing importance across groups."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.importance.context import Context, Criterion
from intrafusion.importance.reduction import of_mean_one


def by_importance(context: Context, criterion: Criterion) -> Mapping[Group, Tensor]:
    """The importance that is lost, each group's scores being scaled to a mean of 1."""
    return {group: _lost(criterion(group, context)) for group in context.analysis.groups}


def _lost(scores: Tensor) -> Tensor:
    falling = of_mean_one(scores.double()).sort(descending=True).values
    kept = torch.cat([falling.new_zeros(1), falling.cumsum(0)])
    return kept[-1] - kept
