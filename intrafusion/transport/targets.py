"""What the n units of a group are transported to."""

from __future__ import annotations

import torch
from torch import Tensor

SAME = 1e-6
"""Unit vectors closer than this are copies: float32 does not tell them apart."""


def most_important(importance: Tensor, vectors: Tensor, count: int) -> Tensor:
    """The positions (count,) of the units of highest importance, ascending.

    A copy of a unit that is already chosen stands for nothing new, so copies come last. Equal
    scores are settled by position, so that the choice does not depend on the platform.

    Args:
        importance: (n,) scores.
        vectors: (n, d) the units as vectors of length 1.
        count: how many to choose.
    """
    order = importance.argsort(descending=True, stable=True)
    repeated = _is_repeated(vectors[order])
    return torch.cat([order[~repeated], order[repeated]])[:count].sort().values


def _is_repeated(vectors: Tensor) -> Tensor:
    """Whether an equal row stands before: (n,) booleans."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(vectors.shape[1], 4, generator=generator).to(vectors)
    # Copies agree in every projection, and others practically never in four.
    shadow = vectors @ probe
    by_shadow = shadow[:, 0].argsort(stable=True)
    steps = (shadow[by_shadow].diff(dim=0).abs() > SAME * vectors.shape[1] ** 0.5).any(1)
    kind = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
    kind[by_shadow[1:]] = steps.cumsum(0)
    first = torch.full((len(vectors),), len(vectors), device=vectors.device)
    positions = torch.arange(len(vectors), device=vectors.device)
    first = first.scatter_reduce(0, kind, positions, "amin")
    return positions != first[kind]
