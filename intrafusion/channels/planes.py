"""Planes: which channel stands at which position of a value.

A plane is an int32 tensor of exactly its value's shape. Each entry is an atom: one index of one
dimension of one parameter or buffer. It has stride 0 along every dimension that carries no
identity, so that a plane of a feature map takes the memory of its channels. Entry 0 is the
frozen atom: a channel that always stays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

FROZEN = 0


def along(labels: Tensor, dim: int, shape: Sequence[int]) -> Tensor:
    """The plane of `shape` whose entries are `labels` (shape[dim],) along `dim`."""
    labels = labels.to(torch.int32)
    if len(shape) == 1:
        return labels
    strides = [0] * len(shape)
    strides[dim] = labels.stride(0)
    return labels.as_strided(tuple(shape), strides)


def varying(plane: Tensor) -> tuple[int, ...]:
    """The dimensions along which `plane` distinguishes channels."""
    sizes = zip(plane.shape, plane.stride(), strict=True)
    return tuple([d for d, (size, stride) in enumerate(sizes) if stride and size > 1])


def core(plane: Tensor, dims: Collection[int] | None = None) -> Tensor:
    """`plane` narrowed to its first entry along every dimension that is not in `dims`.

    Without `dims`, the varying dimensions are kept: nothing of the plane is lost.
    """
    strides = plane.stride()
    if dims is None:
        sizes = zip(plane.shape, strides, strict=True)
        shape = [size if stride else min(size, 1) for size, stride in sizes]
    else:
        shape = [size if d in dims else min(size, 1) for d, size in enumerate(plane.shape)]
    return plane.as_strided(shape, strides)


def compact(plane: Tensor) -> Tensor:
    """The same plane with stride 0 along every dimension that it does not distinguish."""
    seed = core(plane)
    for dim in varying(seed):
        first = seed.narrow(dim, 0, 1)
        if torch.equal(seed, first.expand_as(seed)):
            seed = first
    return seed.expand(plane.shape)


def is_frozen(plane: Tensor) -> bool:
    """Whether no entry of `plane` can be removed."""
    return not bool(core(plane).any())


def surviving_shape(shape: Sequence[int], planes: Sequence[Tensor], alive: Tensor) -> list[int]:
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
        grid = alive[core(plane).long()]
        for dim in dims:
            others = [d for d in dims if d != dim]
            lines = grid.amax(dim=others, keepdim=True) if others else grid
            kept[dim] = min(kept[dim], int(lines.sum()))
        if int(grid.sum()) != math.prod(kept[d] for d in dims):
            raise ValueError(f"{int(grid.sum())} channels left cannot fill {kept}")
    return kept
