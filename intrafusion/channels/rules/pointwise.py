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
    return tuple(p for p in merged if not _stops_at_fixed_size(walk, node, p, values))


def _stops_at_fixed_size(walk: Walk, node: fx.Node, plane: Tensor, values: Sequence[Value]) -> bool:
    """Keep `plane` from losing lines along a dimension whose size another value fixes.

    Where it distinguishes channels along other dimensions too, it is enough that every line
    keeps the same of them; otherwise its channels must stay, and the answer is true.
    """
    fixed = [dim for dim in varying(plane) if any(_is_fixed(v, dim - plane.dim()) for v in values)]
    if len(fixed) == len(varying(plane)) and fixed:
        walk.freeze(plane, node, "it meets a tensor whose size along the channels is fixed")
        return True
    walk.tie_along(plane, fixed)
    return False


def _is_fixed(value: Value, dim: int) -> bool:
    """Whether `value` has a size of its own along `dim`, counted from the end, and no labels."""
    return -dim <= value.meta.dim() and value.shape[dim] > 1 and value.plane_along(dim) is None
