"""From scores per parameter to one score per unit of a group."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from intrafusion.channels import Binding, Group, Role


def mean_over_weights(group: Group, score: Callable[[Binding], Tensor], *, scaled: bool) -> Tensor:
    """Mean of `score` over the weights that make and read the units: (n,).

    With `scaled` each weight's scores (n,) are first scaled to a mean of 1, so that a large layer
    does not outvote a small one (the reduction of Fang et al., DepGraph, CVPR 2023, §3.3).
    """
    weights = [binding for binding in group.bindings if binding.role is not Role.CARRIER]
    scores = [score(binding) for binding in weights]
    return torch.stack([of_mean_one(each) if scaled else each for each in scores]).mean(0)


def of_mean_one(scores: Tensor) -> Tensor:
    """`scores` (n,) scaled to a mean of 1; zeros stay zeros."""
    mean = scores.mean()
    return scores / mean if mean > 0 else scores
