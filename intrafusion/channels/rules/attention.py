"""Attention as one operation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from intrafusion.channels.planes import core, varying
from intrafusion.channels.rules.contraction import contract
from intrafusion.channels.rules.pointwise import merge
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import arguments


def attention(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
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
        scores = Value(q.meta.new_empty(shape), tuple(head.expand(shape) for head in heads))
        merge(walk, node, [scores, mask], shape)
    planes = []
    for plane in v.planes:
        if out.dim() - 1 not in varying(plane):
            walk.freeze(plane, node, "attention runs along its channels")
            continue
        if heads:
            walk.tie(plane, core(heads[0], varying(heads[0])))
        else:
            walk.tie_along(plane, [d for d in varying(plane) if d != out.dim() - 1])
        if plane.shape[:-2] == out.shape[:-2]:
            planes.append(plane.narrow(-2, 0, 1).expand(out.shape))
        else:
            # Grouped queries: each head of v serves several heads of the output.
            shared = [d for d in range(plane.dim() - 2) if plane.shape[d] != out.shape[d]]
            for dim in shared:
                plane = plane.repeat_interleave(out.shape[dim] // plane.shape[dim], dim)
            planes.append(core(plane, varying(plane)).narrow(-2, 0, 1).expand(out.shape))
    return tuple(planes)


def resize(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """The scale is 1/√E of the original, whatever is left of E."""
    q: Value = sizes.values[arguments(old)[0]]
    if old.kwargs.get("scale") is None and sizes.after(q)[-1] != q.shape[-1]:
        new.kwargs = {**new.kwargs, "scale": q.shape[-1] ** -0.5}
