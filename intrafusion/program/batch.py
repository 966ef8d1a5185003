"""A graph for any batch size from two captures at fixed ones."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.branch import Branch, branch_of
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
    for node in two.graph.find_nodes(op="get_attr"):
        name = str(node.target)
        if name in three.tensors and not _equal(two.tensors[name], three.tensors[name]):
            raise _depends(f"the constant {name} differs")
    return _join(two.graph, three.graph, _Joined()).graph


def _join(two: fx.Graph, three: fx.Graph, joined: _Joined) -> _Joined:
    nodes, others = list(two.nodes), list(three.nodes)
    if len(nodes) != len(others):
        raise _depends(f"{len(nodes)} operations at a batch of 2, {len(others)} at a batch of 3")
    for node, other in zip(nodes, others, strict=True):
        joined.append(node, other)
    return joined


class _Joined:
    """The graph that grows as two captures are walked side by side.

    A way of a branch sees no input whose size is the batch's: it is given the batch size itself,
    as its last placeholder.
    """

    def __init__(self, *, is_way: bool = False) -> None:
        self.graph = fx.Graph()
        self.reads_batch = False
        self._is_way = is_way
        self._nodes: dict[fx.Node, fx.Node] = {}
        self._batch: fx.Node | None = None
        self._input: fx.Node | None = None
        self._lines: dict[tuple[int, int], fx.Node] = {}

    def append(self, node: fx.Node, other: fx.Node) -> None:
        if self._is_way and self._batch is None and node.op != "placeholder":
            self._batch = self.graph.placeholder("batch")
        target, twin = node.target, other.target
        more: list[fx.Node] = []
        if isinstance(target, Branch) and isinstance(twin, Branch):
            target, more = self._branch(target, twin)
        elif node.op != other.op or target != twin:
            raise _depends(f"{target} at a batch of 2 is {twin} at a batch of 3")
        args = (*self._join(node.args, other.args, node), *more)
        kwargs = self._join(node.kwargs, other.kwargs, node)
        new = self.graph.create_node(node.op, target, args, kwargs, node.name)
        new.meta = dict(node.meta)
        self._nodes[node] = new
        if node.op == "placeholder" and self._input is None:
            self._input = new

    def _branch(self, a: Branch, b: Branch) -> tuple[Branch, list[fx.Node]]:
        """Branches joined way by way, and the operand that the ways are given beside theirs."""
        pairs = zip(a.ways, b.ways, strict=True)
        ways = [_join(two, three, _Joined(is_way=True)) for two, three in pairs]
        read = any(way.reads_batch for way in ways)
        for way in ways if not read else ():
            way.graph.erase_node(way.batch)
        return branch_of(*(way.graph for way in ways)), [self._size()] if read else []

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

    @property
    def batch(self) -> fx.Node:
        """The batch size."""
        if self._batch is None:
            assert self._input is not None
            self._batch = self.graph.call_function(torch.ops.aten.sym_size.int, (self._input, 0))
        return self._batch

    def _line(self, slope: int, offset: int) -> fx.Node:
        known = self._lines.get((slope, offset))
        if known is not None:
            return known
        line = self._size()
        if slope != 1:
            line = self.graph.call_function(operator.mul, (line, slope))
        if offset != 0:
            line = self.graph.call_function(operator.add, (line, offset))
        self._lines[slope, offset] = line
        return line

    def _size(self) -> fx.Node:
        self.reads_batch = True
        return self.batch


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
