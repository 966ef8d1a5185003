"""Reductions over dimensions, and softmax."""

from __future__ import annotations

from typing import Any

from torch import fx

from intrafusion.channels.planes import core, varying
from intrafusion.channels.rules.pointwise import pointwise
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import name_of
from intrafusion.program.normalise import arguments

STATISTICS = {
    "mean": "a mean",
    "amax": "a maximum",
    "amin": "a minimum",
    "max": "a maximum",
    "min": "a minimum",
    "var": "a variance",
    "std": "a standard deviation",
    "var_mean": "a variance",
    "std_mean": "a standard deviation",
}
"""Reductions that go on meaning the same over fewer channels, and what to call them."""

REDUCTIONS = [
    *STATISTICS,
    "sum",
    "prod",
    "logsumexp",
    "linalg_vector_norm",
    "norm",
    "any",
    "all",
    "argmax",
    "argmin",
]
SOFTMAXES = ["softmax", "_softmax", "log_softmax", "_log_softmax"]


def reduce(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> Any:
    """Channels along the reduced dimensions stay, the others pass.

    A mean or a maximum over channels is a statistic like those of layer norm: channels may go
    from under it. Where channels stand in a grid, as those of the heads of an attention do, and
    one of its dimensions is reduced, they go by whole lines.
    """
    if isinstance(arguments(node).get("other"), fx.Node):
        return pointwise(walk, node, args, kwargs, out)  # the larger of two tensors
    first = out if isinstance(out, Value) else out[0]
    planes = _left(walk, node, args[0], first)
    return planes if isinstance(out, Value) else [planes] * len(out)


def _left(walk: Walk, node: fx.Node, x: Value, out: Value) -> Planes:
    dims = _reduced_dims(node, x.rank)
    keepdim = out.rank == x.rank
    statistic = None if _is_position_read(node) else STATISTICS.get(name_of(node))
    planes = []
    for plane in x.planes:
        own = set(varying(plane))
        if (rest := own - dims) and own & dims:
            if walk.whole_heads or min(own & dims) < min(rest):
                # Whole lines go: what is reduced to one is what it was.
                walk.tie_along(plane, own & dims)
                plane = core(plane, rest)
                own = rest
            elif statistic is not None:
                walk.tie_along(plane, rest)
        if own & dims:
            if statistic is not None:
                walk.warn(
                    plane, f"{statistic} runs over these channels: it changes when channels go"
                )
                continue
            walk.freeze(plane, node, "it reduces over its channels")
            continue
        if not keepdim:
            plane = plane.reshape([s for dim, s in enumerate(plane.shape) if dim not in dims])
        planes.append(plane)
    return tuple(planes)


def softmax(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Softmax mixes what it runs along: those channels stay, unless whole lines of them go."""
    x: Value = args[0]
    dim = args[1] % x.rank
    planes = []
    for plane in x.planes:
        if dim in varying(plane) and len(varying(plane)) > 1:
            walk.tie_along(plane, [dim])
            planes.append(plane)
        elif dim in varying(plane):
            walk.freeze(plane, node, "softmax runs along its channels")
        else:
            planes.append(plane)
    return tuple(planes)


def _reduced_dims(node: fx.Node, rank: int) -> set[int]:
    given = arguments(node).get("dim")
    if given is None or given == []:
        return set(range(rank))
    listed = [given] if isinstance(given, int) else list(given)
    return {d % rank for d in listed}


def _is_position_read(node: fx.Node) -> bool:
    """Whether the network uses where the maximum stands: a channel's number, then."""
    return name_of(node) in ("max", "min") and any(
        user.args[1:] == (1,) and user.users for user in node.users
    )
