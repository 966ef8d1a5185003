"""Concatenation and stacking."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.channels.planes import FROZEN, core, varying
from intrafusion.channels.rules.pointwise import merge
from intrafusion.channels.walk import Planes, Value, Walk


def cat(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """Along the joined dimension labels follow each other; along the others they meet."""
    parts: list[Value] = list(args[0])
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    return (*_joined(walk, parts, dim, out), *_met(walk, node, parts, dim, out))


def stack(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """The new dimension carries no labels; along the others they meet."""
    parts: list[Value] = list(args[0])
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    raised = [
        Value(v.meta.unsqueeze(dim), tuple(p.unsqueeze(dim) for p in v.planes)) for v in parts
    ]
    return merge(walk, node, raised, out.shape)


def _joined(walk: Walk, parts: list[Value], dim: int, out: Tensor) -> Planes:
    planes = [part.plane_along(dim) for part in parts]
    if all(plane is None for plane in planes):
        return ()
    pieces = [
        torch.full(part.shape, FROZEN, dtype=torch.int32) if plane is None else plane
        for part, plane in zip(parts, planes, strict=True)
    ]
    dims = {dim, *(d for p in pieces for d in varying(p) if p.shape[d] == out.shape[d])}
    return (torch.cat([core(p, sorted(dims)) for p in pieces], dim).expand(out.shape),)


def _met(walk: Walk, node: fx.Node, parts: list[Value], dim: int, out: Tensor) -> Planes:
    # Seen along any other dimension, the parts stand on top of each other.
    flat = [
        Value(part.meta.narrow(dim, 0, 1), tuple(p.narrow(dim, 0, 1) for p in part.without(dim)))
        for part in parts
    ]
    shape = [1 if d == dim else size for d, size in enumerate(out.shape)]
    return tuple(p.expand(out.shape) for p in merge(walk, node, flat, shape))
