"""Importance by distance from the other units: what lies near all of them can be replaced."""

from __future__ import annotations

from torch import Tensor

from intrafusion.channels import Binding, Group
from intrafusion.channels.slices import unit_rows
from intrafusion.importance.context import Context
from intrafusion.importance.reduction import mean_over_weights
from intrafusion.transport.cost import distances


def fpgm(group: Group, context: Context) -> Tensor:
    """Σ_k ‖w_j − w_k‖₂ over each weight that makes or reads unit j: (n,) scores.

    The smallest sum is at the geometric median (He et al., Filter Pruning via Geometric Median,
    CVPR 2019, eq. 6).
    """

    def of_weight(binding: Binding) -> Tensor:
        rows = unit_rows(context.tensors[binding.tensor], binding)
        return distances(rows, rows, 2).sum(1)

    return mean_over_weights(group, of_weight, scaled=context.scaled)
