"""Importance by what the other units cannot rebuild."""

from __future__ import annotations

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.importance.context import Context, needs
from intrafusion.importance.norm import l1


@needs("samples")
def reconstruction(group: Group, context: Context) -> Tensor:
    """n for the unit that is needed most, 1 for the one that the others rebuild best: (n,) scores.

    The order is that of `intrafusion.importance.subset.select`. A group whose units stand in no
    value is scored by `l1`.
    """
    selection = context.selections.get(group)
    if selection is None:
        return l1(group, context)
    scores = torch.empty(len(group))
    scores[selection.order] = torch.arange(len(group), 0, -1, dtype=torch.float32)
    return scores
