"""The ground cost: how far two units are from each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Literal

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.channels.slices import unit_rows

DIMENSIONS = 1024
"""So many at a time are brought to float64."""
WORTH_COMPILING = 2 * 10**7
"""Terms of ℓ1 distances: what takes `torch.cdist` 15 ms. Above that it is far behind."""


def unit_vectors(group: Group, tensors: Mapping[str, Tensor], trainable: Set[str]) -> Tensor:
    """Each unit as one vector of length 1: (n, d).

    The concatenation of all the parameters that make, hold and read the unit (Theus et al.,
    ICLR 2024, §3.2), biases included. A unit of zeros stays a vector of zeros.
    """
    rows = [
        unit_rows(tensors[binding.tensor], binding)
        for binding in group.bindings
        if binding.tensor in trainable
    ]
    return torch.nn.functional.normalize(torch.cat(rows, 1).float(), dim=1, eps=1e-12)


def distances(x: Tensor, y: Tensor, p: Literal[1, 2]) -> Tensor:
    """‖x_j − y_k‖_p for all pairs: (n, d) and (m, d) to (n, m), in the dtype of `x`."""
    return _absolute(x, y) if p == 1 else _euclidean(x, y)


def _absolute(x: Tensor, y: Tensor) -> Tensor:
    """Σ_d |x_jd − y_kd|; on a CPU by a compiled loop, where there is work enough for a compiler."""
    if x.device.type != "cpu" or len(x) * len(y) * x.shape[1] < WORTH_COMPILING:
        return torch.cdist(x, y, p=1.0)
    # Imported here: numba takes its time, and few jobs on small networks need it.
    from intrafusion.transport.absolute import absolute

    return absolute(x, y)


def _euclidean(x: Tensor, y: Tensor) -> Tensor:
    """√(‖x_j‖² + ‖y_k‖² − 2 x_j·y_k), by one matrix product in float64: near copies stay near."""
    square = x.new_zeros(len(x), len(y), dtype=torch.float64)
    for units, targets in _by_dimensions(x, y):
        units, targets = units.double(), targets.double()
        square += units.square().sum(1)[:, None] + targets.square().sum(1)
        square -= 2 * units @ targets.T
    return square.clamp_min(0).sqrt().to(x)


def _by_dimensions(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """`x` and `y`, some of their dimensions at a time."""
    for start in range(0, x.shape[1], DIMENSIONS):
        part = slice(start, start + DIMENSIONS)
        yield x[:, part].contiguous(), y[:, part].contiguous()
