"""Allocation by what the units of each group can rebuild of each other."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from intrafusion.channels import Group
from intrafusion.importance.context import Context, Criterion, needs


@needs("samples")
def reconstruction(context: Context, criterion: Criterion) -> Mapping[Group, Tensor]:
    """The error curves of the greedy selection: change of the network's outputs, to first order."""
    return {group: selection.errors for group, selection in context.selections.items()}
