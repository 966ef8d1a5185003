"""Operations that work entry by entry, with broadcasting."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import fx

from intrafusion.channels.planes import Plane, varying
from intrafusion.channels.walk import Planes, Value, Walk, values_in
from intrafusion.program.nodes import name_of

OPS = [
    "prelu",
    "hardtanh",
    "hardswish",
    "masked_fill",
    "where",
    "clamp",
    "clone",
    "copy",
    "contiguous",
    "detach",
    "_to_copy",
    "to",
]
"""Those that ATen does not itself tag as pointwise."""


def pointwise(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Channels that meet at one position are one; one that meets a fixed size must stay."""
    values = list(values_in((*args, *kwargs.values())))
    if len(values) > 1 and name_of(node) == "prelu":
        # The slope is one per channel, and the channel is dimension 1.
        x, slope = values
        values = [x, per_channel(slope, max(2, x.rank))]
    return merge(walk, node, values, out.shape)


def per_channel(vector: Value, rank: int) -> Value:
    """A value (channels,) in the shape (1, channels, …) of `rank`."""
    view = (1, -1, *[1] * (rank - 2))
    shape = (1, *vector.shape, *view[2:])
    return Value(shape, vector.dtype, tuple([p.reshape(view) for p in vector.planes]))


def merge(walk: Walk, node: fx.Node, values: Sequence[Value], shape: Sequence[int]) -> Planes:
    """The planes of a result of `shape` in which `values` meet position by position."""
    if len(values) == 1 and values[0].shape == shape:
        return values[0].planes
    merged: list[tuple[Plane, frozenset[int]]] = []
    for value in values:
        lead = len(shape) - value.rank
        for plane in value.planes:
            dims = frozenset([d + lead for d in varying(plane)])
            twin = next((other for other, taken in merged if not taken.isdisjoint(dims)), None)
            if twin is None:
                merged.append((plane.reshape((1,) * lead + plane.shape), dims))
            else:
                walk.tie(twin, plane)
    if len(values) < 2:
        return tuple([plane for plane, _ in merged])
    return tuple([p for p, dims in merged if not _stops_at_fixed_size(walk, node, p, dims, values)])


def _stops_at_fixed_size(
    walk: Walk, node: fx.Node, plane: Plane, dims: Collection[int], values: Sequence[Value]
) -> bool:
    """Keep `plane` from losing lines along a dimension whose size another value fixes.

    Where it distinguishes channels along other dimensions too, it is enough that every line
    keeps the same of them; otherwise its channels must stay, and the answer is true.
    """
    rank = plane.ndim
    fixed = [dim for dim in sorted(dims) if any(_is_fixed(v, dim - rank) for v in values)]
    if len(fixed) == len(dims) and fixed:
        walk.freeze(plane, node, "it meets a tensor whose size along the channels is fixed")
        return True
    walk.tie_along(plane, fixed)
    return False


def _is_fixed(value: Value, dim: int) -> bool:
    """Whether `value` has a size of its own along `dim`, counted from the end, and no labels."""
    shape = value.shape
    return -dim <= len(shape) and shape[dim] > 1 and value.plane_along(dim) is None
