"""Concatenation, stacking, and halves that are multiplied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx

from intrafusion.channels.planes import FROZEN, along, broadcast, varying
from intrafusion.channels.rules.contraction import raised
from intrafusion.channels.rules.index import taken_apart
from intrafusion.channels.rules.pointwise import merge
from intrafusion.channels.walk import Planes, Value, Walk


def cat(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Along the joined dimension labels follow each other; along the others they meet."""
    parts: list[Value] = list(args[0])
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.rank
    return (*_joined(walk, node, parts, dim, out), *_met(walk, node, parts, dim, out))


def stack(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """The new dimension carries no labels; along the others they meet."""
    parts: list[Value] = list(args[0])
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.rank
    return merge(walk, node, [raised(part, dim) for part in parts], out.shape)


def glu(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """The first half of a dimension times the sigmoid of the second: the two meet."""
    x: Value = args[0]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", -1)) % out.rank
    size = out.shape[dim]
    places = np.arange(2 * size).reshape(2, size)
    halves = taken_apart(walk, node, x, dim, list(places))
    parts = [replace(out, planes=planes) for planes in halves]
    return merge(walk, node, parts, out.shape)


def _joined(walk: Walk, node: fx.Node, parts: list[Value], dim: int, out: Value) -> Planes:
    planes = [part.plane_along(dim) for part in parts]
    if all(plane is None for plane in planes):
        return ()
    pieces = [
        along(np.full(part.shape[dim], FROZEN, np.int32), dim, out.rank) if plane is None else plane
        for part, plane in zip(parts, planes, strict=True)
        if part.shape[dim]
    ]
    dims = {dim, *(d for p in pieces for d in varying(p))}
    full = [size if d in dims else 1 for d, size in enumerate(out.shape)]
    plane = np.concatenate(
        [broadcast(p, (*full[:dim], p.shape[dim], *full[dim + 1 :])) for p in pieces], dim
    )
    walk.rectangle(plane, node)
    return (plane,)


def _met(walk: Walk, node: fx.Node, parts: list[Value], dim: int, out: Value) -> Planes:
    # Seen along any other dimension, the parts stand on top of each other. A part may have lost
    # all its channels.
    if not any(part.without(dim) for part in parts):
        return ()
    shape = tuple([1 if d == dim else size for d, size in enumerate(out.shape)])
    flat = [Value(shape, out.dtype, part.without(dim)) for part in parts if part.shape[dim]]
    return merge(walk, node, flat, shape)
