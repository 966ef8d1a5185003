"""Importance by magnitude, as a share of what is left once all smaller ones are gone."""

from __future__ import annotations

from torch import Tensor

from intrafusion.channels import Group
from intrafusion.importance.context import Context
from intrafusion.importance.norm import l2


def lamp(group: Group, context: Context) -> Tensor:
    """s_u / Σ_{v: s_v ≥ s_u} s_v, with s the squared norms of `l2`: (n,) scores.

    Within a group it ranks as `l2` does; across groups its scores can be compared (Lee et al.,
    Layer-adaptive Sparsity for the Magnitude-based Pruning, ICLR 2021, eq. 3).
    """
    squares = l2(group, context)
    order = squares.argsort(stable=True)
    ascending = squares[order]
    from_here_on = ascending.flip(0).cumsum(0).flip(0)
    scores = squares.clone()
    scores[order] = ascending / from_here_on.clamp_min(squares.new_tensor(1e-30))
    return scores
