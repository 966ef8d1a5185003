"""Operations that work entry by entry, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from intrafusion.channels.planes import varying
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import name_of

OPS = [
    "prelu",
    "hardtanh",
    "hardswish",
    "masked_fill",
    "where",
    "clamp",
    "clone",
    "contiguous",
    "detach",
    "_to_copy",
    "to",
]
"""Those that ATen does not itself tag as pointwise."""


def pointwise(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """Channels that meet at one position are one; one that meets a fixed size must stay."""
    values = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Value)]
    if len(values) > 1 and name_of(node) == "prelu":
        # The slope is one per channel, and the channel is dimension 1.
        x, slope = values
        view = (1, -1, *[1] * (x.meta.dim() - 2)) if slope.shape.numel() > 1 else [1] * x.meta.dim()
        slope = Value(slope.meta.reshape(view), tuple(p.reshape(view) for p in slope.planes))
        values = [x, slope]
    return merge(walk, node, values, out.shape)


def merge(walk: Walk, node: fx.Node, values: Sequence[Value], shape: Sequence[int]) -> Planes:
    """The planes of a result of `shape` in which `values` meet position by position."""
    merged: list[Tensor] = []
    for value in values:
        for plane in value.planes:
            spread = plane.expand(tuple(shape))
            twin = next((p for p in merged if set(varying(p)) & set(varying(spread))), None)
            if twin is None:
                merged.append(spread)
            else:
                walk.tie(twin, spread)
    return tuple(p for p in merged if not _meets_fixed_size(walk, node, p, values))


def _meets_fixed_size(walk: Walk, node: fx.Node, plane: Tensor, values: Sequence[Value]) -> bool:
    for value in values:
        offset = plane.dim() - value.meta.dim()
        for dim in varying(plane):
            own = dim - offset
            if own >= 0 and value.shape[own] > 1 and value.plane_along(own) is None:
                walk.freeze(plane, node, "it meets a tensor whose size along the channels is fixed")
                return True
    return False
