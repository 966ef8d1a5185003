"""Convolutions of every kind: plain, grouped, depthwise, transposed."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from intrafusion.channels.planes import Plane, along, core, row, varying
from intrafusion.channels.rules.contraction import contract
from intrafusion.channels.rules.pointwise import merge, per_channel
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import arguments


def convolution(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """x (N, I, …) with W (O, I/groups, k…), or W (I, O/groups, k…) when transposed."""
    x, weight, bias = args[:3]
    transposed, groups = args[6], args[8]
    x = _settle_space(walk, node, x)
    for dim in range(2, weight.rank):
        if (taps := weight.plane_along(dim)) is not None:
            walk.freeze(taps, node, "kernels keep their size", quiet=True)

    # Several filters on a channel that cannot go are channels of their own.
    carries = _is_depthwise(x, weight, groups) and (
        x.plane_along(1) is not None or weight.shape[0] == groups
    )
    if groups == 1:
        contract(walk, node, x, 1, weight, 0 if transposed else 1)
        made = _labels(weight, 1 if transposed else 0)
    elif carries:
        made = _depthwise(walk, node, x, weight)
    else:
        made = _grouped(walk, node, x, weight, groups, transposed)

    planes = x.without(1)
    if made is not None:
        if not carries:
            walk.produce(made)
        planes = (*planes, along(made, 1, out.rank))
    values = [Value(out.shape, out.dtype, planes)]
    if bias is not None:
        values.append(per_channel(bias, out.rank))
    return merge(walk, node, values, out.shape)


def resize(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """A depthwise convolution has one group per channel that is left."""
    x, weight = (sizes.values[argument] for argument in arguments(old)[:2])
    if _is_depthwise(x, weight, arguments(old)[8]):
        new.args = (*new.args[:8], sizes.after(x)[1])


def _is_depthwise(x: Value, weight: Value, groups: Any) -> bool:
    return bool(groups > 1 and groups == x.shape[1] and weight.shape[1] == 1)


def _settle_space(walk: Walk, node: fx.Node, x: Value) -> Value:
    """Along space a channel is one; labels that live in space alone must stay."""
    planes = []
    for plane in x.planes:
        dims = varying(plane)
        space = [d for d in dims if d > 1]
        if not space:
            planes.append(plane)
        elif 1 not in dims:
            walk.freeze(plane, node, "a convolution runs along its channels")
        else:
            walk.tie_along(plane, space)
            planes.append(core(plane, [d for d in dims if d < 2]))
    return Value(x.shape, x.dtype, tuple(planes))


def _depthwise(walk: Walk, node: fx.Node, x: Value, weight: Value) -> Plane | None:
    made = _labels(weight, 0)
    read = _labels(x, 1)
    if made is None:
        return None
    if read is None:
        walk.freeze(made, node, "it filters channels that cannot be removed")
        return None
    walk.tie(made.reshape(read.size, -1), read[:, None])
    return made


def _grouped(
    walk: Walk, node: fx.Node, x: Value, weight: Value, groups: int, transposed: bool
) -> Plane | None:
    """Every group keeps the same channels, in and out."""
    read = _labels(x, 1)
    columns = _labels(weight, 0 if transposed else 1)
    made = _labels(weight, 1 if transposed else 0)
    if columns is not None:
        walk.consume(columns)
    grid = None if read is None else read.reshape(groups, -1)
    if grid is None or columns is None:
        for labels in (read, columns):
            if labels is not None:
                walk.freeze(labels, node, "it is read against channels that cannot be removed")
    else:
        walk.tie_along(grid, [0])
        walk.tie(grid, columns.reshape(groups, -1) if transposed else columns[None])
    if made is None:
        return None
    if transposed:
        return np.tile(made, groups)
    walk.tie_along(made.reshape(groups, -1), [0])
    return made


def _labels(value: Value, dim: int) -> Plane | None:
    plane = value.plane_along(dim)
    return None if plane is None else row(plane, dim)
