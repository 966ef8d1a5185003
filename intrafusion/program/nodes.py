"""Reading the nodes of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.program import torch_private

MOVING = frozenset(
    [
        *("reshape", "permute", "transpose", "squeeze", "unsqueeze", "expand", "clone"),
        *("slice", "select", "split", "split_with_sizes", "unbind", "getitem"),
        "repeat_interleave",
    ]
)
"""Operations that put the numbers of their first argument elsewhere, and change none."""


def name_of(node: fx.Node) -> str:
    """The bare ATen name of what a node calls: `conv2d` for `aten.conv2d.default`."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return _overload_name(target)
    return str(getattr(target, "__name__", target))


@cache
def _overload_name(target: torch._ops.OpOverload) -> str:
    # Asked several times of every node; torch makes the schema's name anew each time.
    return target._schema.name.removeprefix("aten::").rstrip("_")


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """The positional arguments of a node."""
    return node.args


def call(node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Do what `node` does, on other arguments."""
    assert callable(node.target)
    return node.target(*args, **kwargs)


def call_on_meta(node: fx.Node, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """What `node` gives for tensors on the meta device, which have shapes alone; new tensors are
    there too.

    Where torch cannot tell, as the shape depends on what the tensors hold (`nonzero`) or the
    operation has no such kernel, it is the result for ones.
    """
    place = {"device": "meta"} if "device" in kwargs else {}
    try:
        return call(node, args, {**kwargs, **place})
    except NotImplementedError:
        args, kwargs = torch_private.map_tensors(_filled, (args, dict(kwargs)))
        return torch_private.map_tensors(lambda t: t.to("meta"), call(node, args, kwargs))


def _filled(meta: Tensor) -> Tensor:
    # Integers may be positions, of which 0 is always one.
    value = 1 if meta.is_floating_point() or meta.dtype is torch.bool else 0
    return torch.full(meta.shape, value, dtype=meta.dtype)


def tensor_name(node: fx.Node, position: int) -> str | None:
    """The parameter or buffer that is a node's argument at `position`; None if it is no such."""
    argument = node.args[position] if position < len(node.args) else None
    if isinstance(argument, fx.Node) and argument.op == "get_attr":
        return str(argument.target)
    return None


def copy_graph(graph: fx.Graph) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """A copy of `graph`, its output included, and for every node its twin there."""
    copied = fx.Graph()
    twins: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        twins[node] = copied.node_copy(node, twins.__getitem__)
    return copied, twins


def count_uses(graph: fx.Graph) -> Counter[str]:
    """How many arguments each parameter or buffer is."""
    uses: Counter[str] = Counter()
    for node in graph.find_nodes(op="get_attr"):
        uses[str(node.target)] += len(node.users)
    return uses
