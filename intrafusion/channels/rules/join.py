"""Concatenation, stacking, and halves that are multiplied."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.channels.planes import FROZEN, along, core, varying
from intrafusion.channels.rules.index import picked
from intrafusion.channels.rules.pointwise import merge
from intrafusion.channels.walk import Planes, Value, Walk


def cat(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """Along the joined dimension labels follow each other; along the others they meet."""
    parts: list[Value] = list(args[0])
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    return (*_joined(walk, node, parts, dim, out), *_met(walk, node, parts, dim, out))


def stack(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """The new dimension carries no labels; along the others they meet."""
    parts: list[Value] = list(args[0])
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    raised = [
        Value(v.meta.unsqueeze(dim), tuple(p.unsqueeze(dim) for p in v.planes)) for v in parts
    ]
    return merge(walk, node, raised, out.shape)


def glu(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """The first half of a dimension times the sigmoid of the second: the two meet."""
    x: Value = args[0]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", -1)) % out.dim()
    size = out.shape[dim]
    places = torch.arange(2 * size).reshape(2, size)
    halves = [picked(walk, node, x, dim, own) for own in places]
    parts = [Value(out, planes) for planes in halves]
    return merge(walk, node, parts, out.shape)


def _joined(walk: Walk, node: fx.Node, parts: list[Value], dim: int, out: Tensor) -> Planes:
    planes = [part.plane_along(dim) for part in parts]
    if all(plane is None for plane in planes):
        return ()
    pieces = [
        along(torch.full((part.shape[dim],), FROZEN), dim, part.shape) if plane is None else plane
        for part, plane in zip(parts, planes, strict=True)
    ]
    dims = {dim, *(d for p in pieces for d in varying(p) if p.shape[d] == out.shape[d])}
    plane = torch.cat([core(p, sorted(dims)) for p in pieces], dim).expand(out.shape)
    walk.rectangle(plane, node)
    return (plane,)


def _met(walk: Walk, node: fx.Node, parts: list[Value], dim: int, out: Tensor) -> Planes:
    # Seen along any other dimension, the parts stand on top of each other. A part may have lost
    # all its channels.
    if not any(part.without(dim) for part in parts):
        return ()
    flat = [
        Value(part.meta.narrow(dim, 0, 1), tuple(p.narrow(dim, 0, 1) for p in part.without(dim)))
        for part in parts
        if part.shape[dim]
    ]
    shape = [1 if d == dim else size for d, size in enumerate(out.shape)]
    return tuple(p.expand(out.shape) for p in merge(walk, node, flat, shape))
