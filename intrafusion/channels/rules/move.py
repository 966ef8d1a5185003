"""Operations that move entries without computing: run literally on the planes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import fx

from intrafusion.channels.planes import Plane, in_full, plane_of, reshaped, row, varying
from intrafusion.channels.rules.index import picked, resize_strided_slice, taken_apart
from intrafusion.channels.rules.opaque import opaque
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import arguments, call, name_of

RESHAPES = ["reshape", "reshape_as"]
MOVES = [
    "t",
    "squeeze",
    "unsqueeze",
    "flip",
    "movedim",
    "mT",
    "numpy_T",
    "repeat",
    "repeat_interleave",
    "tile",
]
SHUFFLES = ["pixel_shuffle", "pixel_unshuffle", "channel_shuffle"]
SPLITS = ["split", "split_with_sizes", "chunk", "tensor_split"]
PICKS = ["select", "unbind"]
SIZED = ["reshape", "expand"]
"""Those that carry the sizes of their result as literals."""


def reshape(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Labels keep their row-major order. A label grid that arises must stay a rectangle."""
    x: Value = args[0]
    planes = []
    for plane in x.planes:
        moved = reshaped(plane, x.shape, out.shape)
        walk.rectangle(moved, node)
        planes.append(moved)
    return tuple(planes)


def move(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """The very same operation, on the planes."""
    x: Value = args[0]
    if any(isinstance(argument, Value) for argument in args[1:]):
        opaque(walk, node, args, kwargs, out)  # numbers of repetitions, say
        return ()
    return tuple([plane_of(call(node, (in_full(p, x.shape), *args[1:]), kwargs)) for p in x.planes])


def transpose(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Two dimensions change places."""
    x, *dims = args
    return tuple([plane.swapaxes(*dims) for plane in x.planes])


def permute(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """All dimensions in another order."""
    x, dims = args
    return tuple([plane.transpose(dims) for plane in x.planes])


def expand(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """More dimensions in front, and copies along those of size 1."""
    x: Value = args[0]
    lead = (1,) * (out.rank - x.rank)
    return tuple([plane.reshape(lead + plane.shape) for plane in x.planes])


def cut(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """A slice: positions of one dimension."""
    x: Value = args[0]
    given: list[Any] = [*args[1:], *[0, None, None, 1][len(args) - 1 :]]
    dim = given[0] % x.rank
    return picked(walk, node, x, dim, np.arange(x.shape[dim])[slice(*given[1:])])


def roll(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """A shift by a number of positions: channels must stay, others move along with it."""
    x: Value = args[0]
    rolled = {dim % x.rank for dim in args[2]} if len(args) > 2 else set(range(x.rank))
    for plane in x.planes:
        if set(varying(plane)) & rolled:
            walk.freeze(plane, node, "it works along its channels")
    return tuple(p for p in x.planes if not set(varying(p)) & rolled)


def shuffle(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """pixel_shuffle, pixel_unshuffle, channel_shuffle: between channels and other dimensions."""
    x: Value = args[0]
    name = name_of(node)
    channel = x.rank - 3 if "pixel" in name else 1
    planes = []
    for plane in x.planes:
        if varying(plane)[-1] > channel:
            walk.freeze(plane, node, "it works along its channels")
        elif channel in varying(plane):
            labels = np.moveaxis(plane, channel, -1)
            lead = labels.shape[:-1]
            if name == "channel_shuffle":
                rows = row(plane, channel).reshape(args[1], -1)
                walk.tie_along(rows, [0])
                labels = labels.reshape(*lead, args[1], -1).swapaxes(-1, -2).reshape(labels.shape)
            elif name == "pixel_shuffle":
                rows = row(plane, channel).reshape(-1, args[1] ** 2)
                walk.tie_along(rows, [1])
                # The channels that become neighbouring pixels are one: the first stands for all.
                labels = labels[..., :: args[1] ** 2]
            else:
                labels = labels.repeat(args[1] ** 2, -1)
            planes.append(np.moveaxis(labels, -1, channel))
        else:
            planes.append(plane)
    return tuple(planes)


def split(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> list[Planes]:
    """Each piece takes its part of every plane."""
    x: Value = args[0]
    dim = kwargs.get("dim", args[2] if len(args) > 2 else 0) % x.rank
    sizes = [piece.shape[dim] for piece in out]
    places = [np.arange(end - n, end) for n, end in zip(sizes, accumulate(sizes), strict=True)]
    return taken_apart(walk, node, x, dim, places)


def pick(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> Any:
    """Selecting by position: the selected dimension must keep its size."""
    x: Value = args[0]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % x.rank
    planes = []
    for plane in x.planes:
        if varying(plane) == (dim,):
            walk.freeze(plane, node, "it addresses its channels by number")
            continue
        if dim in varying(plane):
            walk.tie_along(plane, [dim])
        planes.append(plane)
    for plane in planes:
        for line in np.moveaxis(plane, dim, 0) if dim in varying(plane) else ():
            walk.part(line)
    if isinstance(out, Value):
        return tuple([_line(plane, dim, args[2]) for plane in planes])
    return [tuple([_line(plane, dim, i) for plane in planes]) for i in range(len(out))]


def _line(plane: Plane, dim: int, position: int) -> Plane:
    return np.asarray(plane.take(position if plane.shape[dim] > 1 else 0, dim))


def resize_shape(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """reshape, expand: the sizes of the result."""
    source, shape, *others = arguments(new)
    new.args = (source, sizes.sized(new, old, shape), *others)


def resize_slice(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """slice: where it starts and ends among the channels that are left."""
    source: Value = sizes.values[arguments(old)[0]]
    given = [*arguments(old)[1:], *[0, None, None, 1][len(old.args) - 1 :]]
    dim = given[0] % source.rank
    if source.plane_along(dim) is None:
        return
    if given[3] != 1:
        resize_strided_slice(new, source, dim, slice(*given[1:]), sizes)
        return
    new.args = (new.args[0], dim, *_ends(source, dim, given[1:3], sizes), 1)


def resize_slice_scatter(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """The same for a slice that is written to."""
    source: Value = sizes.values[arguments(old)[0]]
    given = [*arguments(old)[2:], *[0, None, None, 1][len(old.args) - 2 :]]
    dim = given[0] % source.rank
    if source.plane_along(dim) is not None and given[3] == 1:
        new.args = (*new.args[:2], dim, *_ends(source, dim, given[1:3], sizes), 1)


def _ends(source: Value, dim: int, given: Sequence[int | None], sizes: Sizes) -> tuple[int, int]:
    start, end, _ = slice(*given).indices(source.shape[dim])
    return (
        sizes.before_position(source, dim, start),
        sizes.before_position(source, dim, end),
    )


def resize_split(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """split, chunk: every piece has a size of its own now."""
    source: Value = sizes.values[arguments(old)[0]]
    given: Any = old.kwargs.get("dim", 0)
    dim: int = arguments(old)[2] if len(old.args) > 2 else given
    if source.plane_along(dim) is None:
        return
    pieces = [sizes.after(piece)[dim % source.rank] for piece in sizes.values[old]]
    new.target = torch.ops.aten.split_with_sizes.default
    new.args = (new.args[0], pieces, dim)
    new.kwargs = {}
