"""Indexing by tensors, and slices with a step: positions picked out of a dimension."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from intrafusion.channels.planes import FROZEN, Plane, compact, row, varying
from intrafusion.channels.rules.opaque import opaque
from intrafusion.channels.rules.pointwise import merge
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.runs import Integers
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import arguments


def index(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """x[…, i, …]: along an indexed dimension only a constant index can be followed."""
    x: Value = args[0]
    indices: list[Value | None] = list(args[1])
    if (constant := _constant(indices)) is not None:
        return picked(walk, node, x, *constant)
    indexed = [dim for dim, index in _by_dimension(indices) if index is not None]
    planes = []
    for plane in x.planes:
        if set(varying(plane)) & set(indexed):
            walk.freeze(plane, node, "an index addresses its channels by number")
            continue
        left = [size for dim, size in enumerate(plane.shape) if dim not in indexed]
        # The index's own dimensions stand where the indexed ones stood, or first if these
        # were apart.
        adjacent = indexed == list(range(indexed[0], indexed[-1] + 1))
        place = indexed[0] if adjacent else 0
        own = [1] * (out.rank - len(left))
        planes.append(plane.reshape([*left[:place], *own, *left[place:]]))
    return tuple(planes)


def index_select(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Entries of one dimension, by number."""
    x, dim, positions = args[:3]
    dim %= x.rank
    if positions.data is not None:
        return picked(walk, node, x, dim, positions.data.cpu().numpy())
    for plane in x.planes:
        if dim in varying(plane):
            walk.freeze(plane, node, "an index addresses its channels by number")
    planes: Planes = x.without(dim)
    return planes


def picked(walk: Walk, node: fx.Node, x: Value, dim: int, positions: Integers) -> Planes:
    """The planes of `x` at some `positions` along `dim`, which go a way of their own.

    Where a channel stands several times along `dim`, as after a flatten, its places have to stay
    together and in order: only so the n-th place of one unit is like the n-th of another.
    """
    (planes,) = taken_apart(walk, node, x, dim, [positions])
    return planes


def taken_apart(
    walk: Walk, node: fx.Node, x: Value, dim: int, pieces: Sequence[Integers]
) -> list[Planes]:
    """The same for several `pieces`, vectors of positions, each of which goes its own way."""
    planes: list[list[Plane]] = [[] for _ in pieces]
    for plane in x.planes:
        lies_along = plane.shape[dim] > 1
        # As it is nearly always: no channel stands there twice.
        once = not lies_along or _stands_once(row(plane, dim))
        for own, positions in zip(planes, pieces, strict=True):
            if not len(positions):
                continue
            if not once and not _keeps_places(plane, dim, positions):
                walk.freeze(plane, node, "it takes apart what one channel became")
                continue
            piece = compact(plane.take(positions, dim)) if lies_along else plane
            walk.part(piece)
            own.append(piece)
    return [tuple(own) for own in planes]


def slice_scatter(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """x with another value written over a slice of it: the two meet there."""
    x, written = args[:2]
    given: list[Any] = [*args[2:], *[0, None, None, 1][len(args) - 2 :]]
    dim = given[0] % x.rank
    if given[3] != 1:
        opaque(walk, node, args, kwargs, out)
        return ()
    places = np.arange(x.shape[dim])[slice(*given[1:])]
    under = Value(written.shape, written.dtype, picked(walk, node, x, dim, places))
    merge(walk, node, [under, written], written.shape)
    planes: Planes = x.planes
    return planes


def _stands_once(labels: Plane) -> bool:
    """Whether no channel but the frozen one stands several times among `labels`."""
    if (labels[1:] > labels[:-1]).all():
        return True
    ascending = np.sort(labels)
    return bool(((ascending[1:] > ascending[:-1]) | (ascending[1:] == FROZEN)).all())


def _keeps_places(plane: Plane, dim: int, positions: Integers) -> bool:
    labels = row(plane, dim)
    labels = np.where(labels == FROZEN, -1 - np.arange(len(labels)), labels)
    kinds, kind, counts = np.unique(labels, return_inverse=True, return_counts=True)
    positions = positions % len(labels)
    chosen = kind[positions]
    order = chosen.argsort(kind="stable")
    in_order = (np.diff(chosen[order]) != 0) | (np.diff(positions[order]) > 0)
    whole = np.bincount(chosen, minlength=len(kinds))
    return bool(in_order.all()) and bool(((whole == 0) | (whole == counts)).all())


def resize_index(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """A constant index, renumbered among the entries that are left."""
    source: Value = sizes.values[arguments(old)[0]]
    indices = [None if i is None else sizes.values[i] for i in arguments(old)[1]]
    constant = _constant(indices)
    if constant is None:
        return
    dim, positions = constant
    if _whole(source, dim, sizes):
        return
    renumbered = sizes.constant(new, _renumber(source, dim, positions, sizes))
    new.args = (
        new.args[0],
        [renumbered if i is not None else None for i in arguments(old)[1]],
    )


def resize_index_select(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """The same for a selection along one dimension."""
    source: Value = sizes.values[arguments(old)[0]]
    dim = arguments(old)[1] % source.rank
    positions = sizes.values[arguments(old)[2]].data
    if positions is not None and not _whole(source, dim, sizes):
        renumbered = sizes.constant(new, _renumber(source, dim, positions.cpu().numpy(), sizes))
        new.args = (new.args[0], dim, renumbered)


def resize_strided_slice(new: fx.Node, source: Value, dim: int, given: slice, sizes: Sizes) -> None:
    """What is left of every k-th channel follows no step: it becomes a selection by number."""
    positions = np.arange(source.shape[dim])[given]
    renumbered = sizes.constant(new, _renumber(source, dim, positions, sizes))
    new.target = torch.ops.aten.index_select.default
    new.args = (new.args[0], dim, renumbered)


def _whole(source: Value, dim: int, sizes: Sizes) -> bool:
    """Whether nothing along a dimension is gone."""
    return sizes.after(source)[dim] == source.shape[dim]


def _renumber(source: Value, dim: int, positions: Integers, sizes: Sizes) -> Tensor:
    """Where the surviving ones of `positions` stand among the surviving lines of `source`."""
    alive = sizes.staying_lines(source, dim)
    assert alive is not None
    number = np.cumsum(alive) - 1
    wanted = positions % source.shape[dim]
    return torch.from_numpy(number[wanted[alive[wanted]]])


def _by_dimension(indices: list[Value | None]) -> Iterator[tuple[int, Value | None]]:
    """The dimensions, and the index of each: a mask is one of all that it has."""
    dim = 0
    for index in indices:
        masked = index is not None and index.dtype in (torch.bool, torch.uint8)
        for _ in range(index.rank if index is not None and masked else 1):
            yield dim, index
            dim += 1


def _constant(indices: list[Value | None]) -> tuple[int, Integers] | None:
    """The dimension and the positions (n,) where one constant vector is the whole index."""
    given = [(dim, value) for dim, value in enumerate(indices) if value is not None]
    if len(given) != 1:
        return None
    dim, value = given[0]
    data = value.data
    if data is None or data.dim() != 1 or data.dtype == torch.bool:
        return None
    return dim, data.cpu().numpy()
