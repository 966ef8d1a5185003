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
