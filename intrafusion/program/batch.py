"""A graph for any batch size from two captures at fixed ones."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.exported import Capture

BATCHES = (2, 3)
"""The two sizes captured. Neither is 1, at which broadcasting hides the batch dimension."""


def generalise(two: Capture, three: Capture) -> fx.Graph:
    """Join normalised captures at the batch sizes `BATCHES` into one graph for every batch size.

    An integer literal that is a in the one and b in the other lies on the line
    `(b − a) · batch + (3a − 2b)`, and becomes that expression of the first input's size.
    Literals on no such line (a quotient, say) give a wrong graph: the caller compares outputs
    at a third batch size.

    Raises `IntraFusionError` with `BATCH_DEPENDENT` where the captures differ in anything else.
    """
    nodes, others = list(two.graph.nodes), list(three.graph.nodes)
    if len(nodes) != len(others):
        raise _depends(f"{len(nodes)} operations at a batch of 2, {len(others)} at a batch of 3")
    joined = _Joined()
    for node, other in zip(nodes, others, strict=True):
        if node.op != other.op or node.target != other.target:
            raise _depends(f"{node.target} at a batch of 2 is {other.target} at a batch of 3")
        if node.op == "get_attr":
            name = str(node.target)
            if not _equal(two.tensors[name], three.tensors[name]):
                raise _depends(f"the constant {name} differs")
        joined.append(node, other)
    return joined.graph


class _Joined:
    """The graph that grows as two captures are walked side by side."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self._nodes: dict[fx.Node, fx.Node] = {}
        self._batch: fx.Node | None = None
        self._input: fx.Node | None = None
        self._lines: dict[tuple[int, int], fx.Node] = {}

    def append(self, node: fx.Node, other: fx.Node) -> None:
        args = self._join(node.args, other.args, node)
        kwargs = self._join(node.kwargs, other.kwargs, node)
        new = self.graph.create_node(node.op, node.target, args, kwargs, node.name)
        new.meta = dict(node.meta)
        self._nodes[node] = new
        if node.op == "placeholder" and self._input is None:
            self._input = new

    def _join(self, a: Any, b: Any, node: fx.Node) -> Any:
        if isinstance(a, fx.Node):
            return self._nodes[a]
        if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
            return type(a)(self._join(x, y, node) for x, y in zip(a, b, strict=True))
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            return {key: self._join(a[key], b[key], node) for key in a}
        if type(a) is int and type(b) is int and a != b:
            return self._line(slope=b - a, offset=3 * a - 2 * b)
        if type(a) is type(b) and a == b:
            return a
        raise _depends(f"{node.target} has {a!r} at a batch of 2 and {b!r} at a batch of 3")

    def _line(self, slope: int, offset: int) -> fx.Node:
        known = self._lines.get((slope, offset))
        if known is not None:
            return known
        if self._batch is None:
            assert self._input is not None
            self._batch = self.graph.call_function(torch.ops.aten.sym_size.int, (self._input, 0))
        line = self._batch
        if slope != 1:
            line = self.graph.call_function(operator.mul, (line, slope))
        if offset != 0:
            line = self.graph.call_function(operator.add, (line, offset))
        self._lines[slope, offset] = line
        return line


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.is_set_to(b):
        return True  # a parameter that both captures share
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def _depends(what: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.BATCH_DEPENDENT,
        f"What the network computes depends on the batch size: {what}.",
        "Rewrite it so that every sample goes through the same operations.",
    )
