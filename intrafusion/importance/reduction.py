"""From scores per parameter to one score per unit of a group."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from intrafusion.channels import Binding, Group, Role


def mean_over_weights(group: Group, score: Callable[[Binding], Tensor]) -> Tensor:
    """Mean of `score` over the weights that make and read the units: (n,).

    Each weight's scores (n,) are first scaled to a mean of 1, so that a large layer does not
    outvote a small one (the reduction of Fang et al., DepGraph, CVPR 2023, §3.3).
    """
    scores = []
    for binding in group.bindings:
        if binding.role is not Role.CARRIER:
            of_weight = score(binding)
            mean = of_weight.mean()
            scores.append(of_weight / mean if mean > 0 else of_weight)
    return torch.stack(scores).mean(0)
