"""How much each unit weighs in the transport."""

from __future__ import annotations

import torch
from torch import Tensor

from intrafusion.spec import Mass

LEAST = 1e-6
"""The least mass, as a share of the mean: a unit without mass would have no place in the plan."""


def masses(kind: Mass, importance: Tensor) -> Tensor:
    """The masses (n,) of units with these scores (n,): positive, float64, of sum 1.

    `uniform` is 1/n each, `importance` i / Σi, `softmax` exp(i) / Σ exp(i) (Theus et al., ICLR
    2024, §3.2).
    """
    scores = importance.double().cpu()
    if kind == "uniform":
        shares = torch.ones_like(scores)
    elif kind == "importance":
        shares = scores.clamp_min(0)
    else:
        shares = scores.softmax(0)
    mean = shares.mean()
    shares = shares.clamp_min(LEAST * mean) if mean > 0 else torch.ones_like(scores)
    return shares / shares.sum()
