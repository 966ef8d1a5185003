"""Importance by the size of a unit's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from intrafusion.channels import Group, Role
from intrafusion.channels.slices import unit_rows


def l1(group: Group, tensors: Mapping[str, Tensor]) -> Tensor:
    """Mean ℓ1 norm of a unit over the weights that make and read it: (n,) scores.

    Each weight is first scaled to a mean norm of 1 over the group, so that a large layer does
    not outvote a small one (the reduction of Fang et al., DepGraph, CVPR 2023, §3.3).
    """
    scores = []
    for binding in group.bindings:
        if binding.role is Role.CARRIER:
            continue
        norms = unit_rows(tensors[binding.tensor], binding).abs().sum(1)
        mean = norms.mean()
        scores.append(norms / mean if mean > 0 else norms)
    return torch.stack(scores).mean(0)
