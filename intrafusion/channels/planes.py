"""Planes: which channel stands at which position of a value.

A plane is an int32 array of the rank of its value. Each entry is an atom: one index of one
dimension of one parameter or buffer. It is of size 1 along every dimension that carries no
identity, and meets other planes as numpy broadcasts, so that a plane of a feature map takes the
memory of its channels. Entry 0 is the frozen atom: a channel that always stays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Plane: TypeAlias = NDArray[np.int32]
Flags: TypeAlias = NDArray[np.bool_]

FROZEN = 0

_ALL, _FIRST = slice(None), slice(0, 1)


def along(labels: Plane, dim: int, rank: int) -> Plane:
    """The plane of a value of `rank` whose entries are the vector `labels`, along `dim`."""
    if rank == 1:
        return labels
    return labels.reshape((1,) * (dim % rank) + (-1,) + (1,) * (rank - 1 - dim % rank))


def varying(plane: Plane) -> tuple[int, ...]:
    """The dimensions along which `plane` distinguishes channels."""
    return tuple([dim for dim, size in enumerate(plane.shape) if size > 1])


def core(plane: Plane, dims: Collection[int]) -> Plane:
    """`plane` narrowed to its first entry along every dimension that is not in `dims`."""
    return plane[tuple([_ALL if dim in dims else _FIRST for dim in range(plane.ndim)])]


def row(plane: Plane, dim: int) -> Plane:
    """The labels of `plane` along `dim`, at the first position of every other dimension."""
    size = plane.shape[dim]
    if plane.size == size:
        return plane.reshape(-1)
    return core(plane, [dim % plane.ndim]).reshape(-1)


def compact(plane: Plane) -> Plane:
    """The same plane with size 1 along every dimension that it does not distinguish."""
    for dim in varying(plane):
        # Most often the first entries of the first two lines along a dimension differ.
        if plane.size and plane.item(0) != plane.item(math.prod(plane.shape[dim + 1 :])):
            continue
        first = plane[(*(_ALL,) * dim, _FIRST)]
        if bool((first == plane).all()):
            plane = first
    return plane


def broadcast(plane: Plane, shape: tuple[int, ...]) -> Plane:
    """`plane` with copies along dimensions of size 1, and in front, to have `shape`."""
    # numpy takes its time to find that there is nothing to do, as mostly there is.
    return plane if plane.shape == shape else np.broadcast_to(plane, shape)


def in_full(plane: Plane, shape: Sequence[int]) -> Tensor:
    """The labels of all positions of a value of `shape`."""
    return torch.from_numpy(plane).expand(tuple(shape))


def plane_of(labels: Tensor) -> Plane:
    """The plane that has `labels` for all positions of a value."""
    entries = labels.numpy()
    narrow = entries[tuple([_ALL if stride else _FIRST for stride in entries.strides])]
    return compact(narrow)


def reshaped(plane: Plane, before: Sequence[int], after: Sequence[int]) -> Plane:
    """The plane of a value of the shape `before` once that is reshaped to `after`."""
    if plane.ndim == len(before) and tuple(before) == tuple(after):
        return plane
    full: list[int] = []
    target: list[int] = []
    changed = False
    for own, new in _blocks(before, after):
        sizes, wanted = before[own], after[new]
        if plane.shape[own].count(1) == len(sizes):
            full += [1] * len(sizes)
            target += [1] * len(wanted)
        else:
            full += sizes
            target += wanted
            changed |= [s for s in sizes if s > 1] != [s for s in wanted if s > 1]
    moved = broadcast(plane, tuple(full)).reshape(target)
    return compact(moved) if changed else moved


def _blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[slice, slice]]:
    """The smallest stretches of dimensions of two shapes that hold as many entries each."""
    blocks = []
    i = k = 0
    while i < len(before) or k < len(after):
        start, begin = i, k
        sizes = [1, 1]
        if i < len(before):
            sizes[0], i = before[i], i + 1
        if k < len(after):
            sizes[1], k = after[k], k + 1
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                sizes[0], i = sizes[0] * before[i], i + 1
            else:
                sizes[1], k = sizes[1] * after[k], k + 1
        blocks.append((slice(start, i), slice(begin, k)))
    return blocks


def is_frozen(plane: Plane) -> bool:
    """Whether no entry of `plane` can be removed."""
    # Nearly every plane can be told by one entry.
    return not (plane.size and plane.item(0)) and not plane.any()


def surviving_shape(shape: Sequence[int], planes: Sequence[Plane], alive: Flags) -> list[int]:
    """The shape of a value once the dead atoms are gone.

    `alive` is a boolean per atom, true for atom 0. A line (one index of one dimension) goes when
    some plane has only dead entries there. Raises `ValueError` where what is left is no
    rectangle: lines that keep different numbers of entries.
    """
    kept = list(shape)
    for plane in planes:
        dims = varying(plane)
        if not dims:
            continue
        grid = alive[plane]
        for dim in dims:
            kept[dim] = min(kept[dim], int(staying_lines(plane, dim, alive).sum()))
        if int(grid.sum()) != math.prod(kept[d] for d in dims):
            raise ValueError(f"{int(grid.sum())} channels left cannot fill {kept}")
    return kept


def staying_lines(plane: Plane, dim: int, alive: Flags) -> Flags:
    """Which lines of `plane` along `dim` have an entry that lives."""
    others = tuple(d for d in range(plane.ndim) if d != dim % plane.ndim)
    return np.asarray(alive[plane].any(axis=others))
