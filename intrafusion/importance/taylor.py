"""Importance by what the loss would change if a unit went."""

from __future__ import annotations

import torch
from torch import Tensor

from intrafusion.channels import Binding, Group
from intrafusion.channels.slices import unit_rows
from intrafusion.importance.context import Context, needs
from intrafusion.importance.reduction import mean_over_weights


@needs("labels")
def taylor(group: Group, context: Context) -> Tensor:
    """Σ|w · ∂L/∂w| over each weight that makes or reads a unit: (n,) scores.

    L is the mean cross-entropy on the labelled samples (Molchanov et al., Importance Estimation
    for Neural Network Pruning, CVPR 2019, eq. 8, with absolute terms as in DepGraph).
    """

    def of_weight(binding: Binding) -> Tensor:
        weight = context.tensors[binding.tensor]
        # A weight that is no parameter has none: nobody trained it.
        gradient = context.gradients.get(binding.tensor, torch.zeros_like(weight))
        return unit_rows(weight * gradient, binding).abs().sum(1)

    return mean_over_weights(group, of_weight, scaled=context.scaled)
