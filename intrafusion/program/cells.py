"""Single steps of recurrent layers, taken apart, and states of zeros taken out of what follows.

`nn.LSTMCell` and its kin are one operation each, in which no channel can be followed. Most begin
with a state of zeros, whose size says nothing of where its channels come from: what adds it is
better off without.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten


def lstm_cell(graph: fx.Graph, a: Mapping[str, Any]) -> tuple[fx.Node, fx.Node]:
    """Hidden and cell state (batch, hidden) after one step with the arguments of
    `aten.lstm_cell`.
    """
    hidden, cell = a["hx"]
    call = _Calls(graph)
    read, kept = _projections(call, a, hidden)
    i, f, g, o = call.pieces(call(aten.add.Tensor, read, kept), 4)
    written = call(aten.mul.Tensor, call(aten.sigmoid.default, i), call(aten.tanh.default, g))
    left = call(aten.mul.Tensor, call(aten.sigmoid.default, f), cell)
    state = call(aten.add.Tensor, left, written)
    shown = call(aten.tanh.default, state)
    return call(aten.mul.Tensor, call(aten.sigmoid.default, o), shown), state


def gru_cell(graph: fx.Graph, a: Mapping[str, Any]) -> fx.Node:
    """The hidden state (batch, hidden) after one step with the arguments of `aten.gru_cell`."""
    call = _Calls(graph)
    read, kept = _projections(call, a, a["hx"])
    (ir, iz, i), (hr, hz, h) = call.pieces(read, 3), call.pieces(kept, 3)
    reset = call(aten.sigmoid.default, call(aten.add.Tensor, ir, hr))
    update = call(aten.sigmoid.default, call(aten.add.Tensor, iz, hz))
    new = call(aten.add.Tensor, i, call(aten.mul.Tensor, reset, h))
    new = call(aten.tanh.default, new)
    left = call(aten.mul.Tensor, update, call(aten.sub.Tensor, a["hx"], new))
    return call(aten.add.Tensor, left, new)


def rnn_cell(graph: fx.Graph, a: Mapping[str, Any], activation: Any) -> fx.Node:
    """The same for `aten.rnn_tanh_cell` and `aten.rnn_relu_cell`."""
    call = _Calls(graph)
    return call(activation, call(aten.add.Tensor, *_projections(call, a, a["hx"])))


class _Calls:
    """Calls that know what they give."""

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph

    def __call__(self, target: Any, *args: Any) -> fx.Node:
        node = self._graph.call_function(target, args)
        node.meta["val"] = target(*fx.map_arg(args, lambda source: source.meta["val"]))
        return node

    def pieces(self, gates: fx.Node, count: int) -> list[fx.Node]:
        size = gates.meta["val"].shape[1] // count
        return [self(aten.slice.Tensor, gates, 1, k * size, (k + 1) * size) for k in range(count)]


def _projections(call: _Calls, a: Mapping[str, Any], hidden: fx.Node) -> tuple[fx.Node, fx.Node]:
    read = call(aten.linear.default, a["input"], a["w_ih"], a["b_ih"])
    return read, call(aten.linear.default, hidden, a["w_hh"], a["b_hh"])


def without_zero_states(graph: fx.Graph) -> None:
    """Take out of `graph`, whose values carry `val`, what a tensor of zeros adds nothing to.

    A product with zeros counts as zeros: nothing in a network at work is infinite.
    """
    zeros = _Zeros(graph)
    for node in list(graph.nodes):
        zeros.visit(node)
    graph.eliminate_dead_code()


class _Zeros:
    """What is known to be zero, and what is only a bias, the same for every sample."""

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        self._zero: set[fx.Node] = set()
        self._bias: dict[fx.Node, fx.Node] = {}

    def visit(self, node: fx.Node) -> None:
        target, args = node.target, node.args
        if target in _FACTORIES or (target in _FULL and args[-1] == 0):
            self._zero.add(node)
        elif target is aten.linear.default and args[0] in self._zero:
            if len(args) > 2 and isinstance(args[2], fx.Node):
                self._bias[node] = args[2]
            else:
                self._zero.add(node)
        elif target is aten.mul.Tensor and not self._zero.isdisjoint(node.all_input_nodes):
            self._zero.add(node)
        elif target is aten.mul.Tensor:
            self._meet(node)
        elif target is aten.slice.Tensor and len(args) == 4:
            self._cut(node, node.all_input_nodes[0], args[1], args[2:])
        elif target is operator.getitem:
            self._cut_split(node, node.all_input_nodes[0], args[1])
        elif target in (aten.add.Tensor, aten.sub.Tensor) and not node.kwargs and len(args) == 2:
            self._add(node)

    def _cut(self, node: fx.Node, source: fx.Node, dim: Any, ends: tuple[Any, ...]) -> None:
        if source in self._zero:
            self._zero.add(node)
        elif source in self._bias and dim in (-1, source.meta["val"].dim() - 1):
            with self._graph.inserting_before(node):
                self._bias[node] = self._graph.call_function(
                    aten.slice.Tensor, (self._bias[source], 0, *ends)
                )

    def _cut_split(self, node: fx.Node, split: fx.Node, number: Any) -> None:
        if split.target is aten.split.Tensor and isinstance(split.args[1], int):
            dim = split.args[2] if len(split.args) > 2 else 0
            size = split.args[1]
            ends = (number * size, (number + 1) * size)
            self._cut(node, split.all_input_nodes[0], dim, ends)

    def _meet(self, node: fx.Node) -> None:
        """What meets a bias that stands for every sample meets the bias itself."""
        left: Any = node.args[0]
        right: Any = node.args[1]
        if right in self._bias and self._decides_shape(left, node):
            node.args = (left, self._bias[right])
        elif left in self._bias and self._decides_shape(right, node):
            node.args = (self._bias[left], right)

    def _add(self, node: fx.Node) -> None:
        left, right = node.args
        if right in self._zero and self._decides_shape(left, node):
            self._replace(node, left)
        elif left in self._zero and self._decides_shape(right, node):
            if node.target is aten.add.Tensor:
                self._replace(node, right)
            else:
                node.target, node.args = aten.neg.default, (right,)
        else:
            self._meet(node)

    def _replace(self, node: fx.Node, by: Any) -> None:
        node.replace_all_uses_with(by)
        self._graph.erase_node(node)

    def _decides_shape(self, value: Any, node: fx.Node) -> bool:
        """Whether `value` has the shape of `node`, a sum, and still says whose channels it has."""
        if not isinstance(value, fx.Node) or value in self._bias or value in self._zero:
            return False
        own, whole = value.meta.get("val"), node.meta.get("val")
        if not isinstance(own, Tensor) or not isinstance(whole, Tensor):
            return False
        return own.shape == whole.shape and own.dtype == whole.dtype


_FACTORIES = frozenset([aten.zeros.default, aten.new_zeros.default, aten.zeros_like.default])
_FULL = frozenset([aten.full.default, aten.new_full.default, aten.full_like.default])
