"""Operations that work entry by entry, with broadcasting."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
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


def is_pointwise(node: fx.Node) -> bool:
    """Whether an operation works entry by entry, as ATen or `OPS` says."""
    if isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags:
        return True
    return name_of(node) in OPS


def pointwise(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Channels that meet at one position are one; one that meets a fixed size must stay."""
    values = values_in((*args, *kwargs.values()))
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
    if walk.whole_heads:
        values = _without_common(walk, node, values)
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


def _without_common(walk: Walk, node: fx.Node, values: Sequence[Value]) -> list[Value]:
    """`values` without the planes of parameters that serve all heads alike.

    The angles of a rotary embedding or the scale of a norm, one for each channel of a head, would
    make one unit of what has to go head by head: they stay. Heads come before their channels.
    """
    dims = [{dim - plane.ndim for dim in varying(plane)} for v in values for plane in v.planes]
    left = []
    for value in values:
        kept = []
        for plane in value.planes:
            own = {dim - plane.ndim for dim in varying(plane)}
            common = any(own < other and min(other) not in own for other in dims)
            if common and not walk.are_produced(plane):
                walk.freeze(plane, node, "all heads of an attention share its channels")
            else:
                kept.append(plane)
        left.append(replace(value, planes=tuple(kept)))
    return left


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
