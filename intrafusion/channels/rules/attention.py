"""Attention as one operation."""

from __future__ import annotations

from typing import Any

from torch import fx

from intrafusion.channels.planes import varying
from intrafusion.channels.rules.contraction import contract
from intrafusion.channels.rules.pointwise import merge
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import arguments


def attention(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """softmax(q kᵀ + mask) v, with q (…, L, E), k (…, S, E), v (…, S, V) and mask (…, L, S).

    q and k are summed over E. Every head keeps the same channels of E, and the same of V, unless
    heads go whole; those of the mask go with them.
    """
    q, k, v = args[:3]
    heads = contract(walk, node, q, -1, k, -1)
    for value in (q, k):
        for plane in value.without(-1):
            walk.freeze(plane, node, "attention runs along its channels")
    mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
    if isinstance(mask, Value):
        shape = (*q.shape[:-1], k.shape[-2])
        scores = Value(shape, q.dtype, heads)
        merge(walk, node, [scores, mask], shape)
    planes = []
    for plane in v.planes:
        if out.rank - 1 not in varying(plane):
            walk.freeze(plane, node, "attention runs along its channels")
            continue
        if heads:
            walk.tie(plane, heads[0])
        else:
            walk.tie_along(plane, [d for d in varying(plane) if d != out.rank - 1])
        for dim in varying(plane)[:-1]:
            # Grouped queries: each head of v serves several heads of the output.
            if dim < out.rank - 2 and plane.shape[dim] != out.shape[dim]:
                plane = plane.repeat(out.shape[dim] // plane.shape[dim], dim)
        planes.append(plane[..., :1, :])
    return tuple(planes)


def resize(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """The scale is 1/√E of the original, whatever is left of E."""
    q: Value = sizes.values[arguments(old)[0]]
    if old.kwargs.get("scale") is None and sizes.after(q)[-1] != q.shape[-1]:
        new.kwargs = {**new.kwargs, "scale": q.shape[-1] ** -0.5}
