"""The ground cost: how far two units are from each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from intrafusion.transport.units import DIMENSIONS, Units

WORTH_COMPILING = 2 * 10**7
"""Terms of ℓ1 distances: what takes `torch.cdist` 15 ms. Above that it is far behind."""

Pairs = Iterator[tuple[Tensor, Tensor]]
"""Some dimensions after the other of all n and all m points: (n, …) and (m, …)."""


def distances(x: Tensor, y: Tensor, p: Literal[1, 2]) -> Tensor:
    """‖x_j − y_k‖_p for all pairs: (n, d) and (m, d) to (n, m), in the dtype of `x`."""
    pairs = zip(torch.split(x, DIMENSIONS, 1), torch.split(y, DIMENSIONS, 1), strict=True)
    return _summed(pairs, x.new_zeros(len(x), len(y), dtype=torch.float64), x.shape[1], p).to(x)


def distances_within(units: Units, sources: Tensor, targets: Tensor, p: Literal[1, 2]) -> Tensor:
    """How far some of the units are from others: (n, m) in float64.

    Args:
        units: all of them.
        sources: (n,) positions, on any device.
        targets: (m,) positions, on any device.
        p: of the norm.
    """
    ours, theirs = (positions.to(units.lengths.device) for positions in (sources, targets))
    pairs = (
        (block.index_select(0, ours), block.index_select(0, theirs)) for block in units.blocks()
    )
    zeros = units.lengths.new_zeros(len(sources), len(targets), dtype=torch.float64)
    return _summed(pairs, zeros, units.dimensions, p)


def _summed(pairs: Pairs, total: Tensor, dimensions: int, p: Literal[1, 2]) -> Tensor:
    """The distances, summed into the zeros of `total` (n, m)."""
    if p == 2:
        return _euclidean(pairs, total)
    if total.device.type == "cpu" and total.numel() * dimensions >= WORTH_COMPILING:
        # Imported here: numba takes its time, and few jobs on small networks need it.
        from intrafusion.transport.absolute import add_absolute

        add_absolute(pairs, total)
        return total
    for x, y in pairs:
        total += torch.cdist(x, y, p=1.0)
    return total


def _euclidean(pairs: Pairs, square: Tensor) -> Tensor:
    """√(‖x_j‖² + ‖y_k‖² − 2 x_j·y_k), by matrix products in float64: near copies stay near."""
    for x, y in pairs:
        x, y = x.double(), y.double()
        square += x.square().sum(1)[:, None]
        square += y.square().sum(1)
        square.addmm_(x, y.T, alpha=-2)
    return square.clamp_min_(0).sqrt_()
