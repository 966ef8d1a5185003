"""The ground cost: how far two units are from each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Literal

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.channels.slices import unit_rows


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


ROWS, COLUMNS, DIMENSIONS = 8, 64, 1024
"""One block of differences is so many units per thread by targets by dimensions: 2 MB per thread,
which stays in the cache between being written, made absolute and summed."""


def _absolute(x: Tensor, y: Tensor) -> Tensor:
    """Σ_d |x_jd − y_kd|, block by block: four times as fast as `torch.cdist`, and more exact."""
    rows = ROWS * torch.get_num_threads()
    total = x.new_zeros(len(x), len(y))
    for units, targets in _by_dimensions(x, y):
        for row in range(0, len(x), rows):
            here = slice(row, row + rows)
            for column in range(0, len(y), COLUMNS):
                there = slice(column, column + COLUMNS)
                total[here, there] += (units[here, None] - targets[there]).abs_().sum(-1)
    return total


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
