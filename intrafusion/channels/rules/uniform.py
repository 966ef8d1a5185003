"""Tensors of one number throughout, such as a mask of zeros: of whatever size they have to be."""

from __future__ import annotations

from typing import Any

from torch import fx

from intrafusion.channels.planes import along
from intrafusion.channels.rules.pointwise import is_pointwise
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import arguments

OPS = ["zeros", "ones", "full"]


def uniform(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Along every dimension whose size is written out it has channels of its own, which go with
    those that they meet.

    Only where they meet others position by position; other operations may read its size.
    """
    if not all(map(is_pointwise, node.users)):
        return ()
    return tuple(
        [
            along(walk.column(f"{node.name}()", dim, size), dim, out.rank)
            for dim, size in enumerate(arguments(node)[0])
            if isinstance(size, int) and size > 1
        ]
    )


def resize(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """The written sizes are those of what it meets."""
    shape, *others = arguments(new)
    new.args = (sizes.sized(new, old, shape), *others)
