"""Reductions over dimensions, and softmax."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from intrafusion.channels.planes import varying
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import name_of

REDUCTIONS = ["mean", "sum", "amax", "amin", "var", "std"]
SOFTMAXES = ["softmax", "_softmax", "log_softmax", "_log_softmax"]


def reduce(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """Channels along the reduced dimensions stay, the others pass.

    A mean over channels is a statistic like those of layer norm: channels may go from under it.
    """
    x: Value = args[0]
    dims = _reduced_dims(node, args, kwargs, x)
    keepdim = out.dim() == x.meta.dim()
    planes = []
    for plane in x.planes:
        if set(varying(plane)) & dims:
            if name_of(node) == "mean" and set(varying(plane)) <= dims:
                walk.warn(plane, "a mean runs over these channels: it changes when channels go")
                continue
            walk.freeze(plane, node, "it reduces over its channels")
            continue
        for dim in sorted(dims, reverse=True):
            plane = plane.narrow(dim, 0, 1) if keepdim else plane.select(dim, 0)
        planes.append(plane.expand(out.shape))
    return tuple(planes)


def softmax(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """Softmax mixes what it runs along: those channels stay."""
    x: Value = args[0]
    dim = args[1] % x.meta.dim()
    planes = []
    for plane in x.planes:
        if dim in varying(plane):
            walk.freeze(plane, node, "softmax runs along its channels")
        else:
            planes.append(plane)
    return tuple(planes)


def _reduced_dims(node: fx.Node, args: Any, kwargs: Any, x: Value) -> set[int]:
    given = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if given is None or given == []:
        return set(range(x.meta.dim()))
    listed = [given] if isinstance(given, int) else list(given)
    return {d % x.meta.dim() for d in listed}
