"""Operations without a rule: whatever they touch stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from intrafusion.channels.walk import Walk, values_in


def opaque(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> Any:
    """Freeze every plane that goes in; nothing comes out."""
    for value in values_in((*args, *kwargs.values())):
        for plane in value.planes:
            walk.freeze(plane, node, "there is no rule for this operation")
    return [()] * len(out) if isinstance(out, Sequence) else ()


def size(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: int) -> None:
    """A size is a number: if channels stand along it, the number must stay."""
    x, dim = args
    if (plane := x.plane_along(dim)) is not None:
        walk.freeze(plane, node, "it counts its channels")
