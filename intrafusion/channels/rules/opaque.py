"""Operations without a rule: whatever they touch stays."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from intrafusion.channels.walk import Value, Walk


def opaque(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> Any:
    """Freeze every plane that goes in; nothing comes out."""
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, Value):
            for plane in leaf.planes:
                walk.freeze(plane, node, "there is no rule for this operation")
    return () if isinstance(out, Tensor) else [()] * len(tree_leaves(out))


def size(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: int) -> None:
    """A size is a number: if channels stand along it, the number must stay."""
    x, dim = args
    if (plane := x.plane_along(dim)) is not None:
        walk.freeze(plane, node, "it counts its channels")
