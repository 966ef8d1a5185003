"""Normalisation layers: their parameters are carriers, one value per channel."""

from __future__ import annotations

from typing import Any

from torch import fx

from intrafusion.channels.planes import row, varying
from intrafusion.channels.rules.pointwise import merge, per_channel
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import arguments, name_of

_WIDTH = "{} takes its statistics over these channels: they change when channels go"


def channel_norm(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """batch_norm, instance_norm (x, γ, β, mean, var, …): one value per channel."""
    x: Value = args[0]
    if name_of(node) == "instance_norm":
        _warn_of_statistics(walk, node, x, 2)
    vectors = [value for value in args[1:5] if isinstance(value, Value)]
    labels = [label for vector in vectors if (label := vector.plane_along(0)) is not None]
    plane = x.plane_along(1)
    if plane is None or len(labels) < len(vectors) or varying(plane) != (1,):
        return merge(walk, node, [x, *(per_channel(v, out.rank) for v in vectors)], out.shape)
    # What nearly every convolution is followed by: vectors that run along one plane.
    channels = plane.reshape(-1)
    for label in labels:
        walk.tie(channels, label)
    return x.planes


def layer_norm(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """layer_norm and rms_norm: statistics run over the last dimensions."""
    x: Value = args[0]
    _warn_of_statistics(walk, node, x, x.rank - len(args[1]))
    affine = [v for v in args[2:4] if isinstance(v, Value)]
    return merge(walk, node, [x, *affine], out.shape)


def group_norm(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Every norm group must keep the same number of channels, or go whole."""
    x: Value = args[0]
    groups = args[1]
    plane = x.plane_along(1)
    if plane is not None:
        walk.rect(row(plane, 1).reshape(groups, -1), node)
    _warn_of_statistics(walk, node, x, 1)
    vectors = [per_channel(v, out.rank) for v in args[2:4] if isinstance(v, Value)]
    return merge(walk, node, [x, *vectors], out.shape)


def resize_group_norm(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """The number of groups is a literal."""
    x: Value = sizes.values[arguments(old)[0]]
    plane = x.plane_along(1)
    if plane is not None:
        staying = sizes.alive[row(plane, 1).reshape(arguments(old)[1], -1)]
        new.args = (new.args[0], int(staying.any(1).sum()), *new.args[2:])


def resize_layer_norm(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """The normalised shape is a literal."""
    value: Value = sizes.values[old]
    count = len(arguments(old)[1])
    new.args = (new.args[0], sizes.after(value)[-count:], *new.args[2:])


def _warn_of_statistics(walk: Walk, node: fx.Node, x: Value, first: int) -> None:
    """Say of the channels along dimension `first` and those after it that they are averaged."""
    for plane in x.planes:
        if any(dim >= first for dim in varying(plane)):
            walk.warn(plane, _WIDTH.format(name_of(node).replace("_", " ")))
