"""Multiply-accumulates, counted from shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from intrafusion.channels.walk import Value, Walk, described, walk
from intrafusion.program import Program
from intrafusion.program.branch import Branch, on_meta

aten = torch.ops.aten


@dataclass(frozen=True)
class Length:
    """How long `value` is along its dimension `dim`."""

    value: Value
    dim: int

    def __int__(self) -> int:
        return self.value.shape[self.dim]


Product: TypeAlias = tuple[Length, ...]
"""Lengths whose product is a number of multiply-accumulates, over the batch of the walk."""


def macs(program: Program) -> int:
    """Multiply-accumulates of one sample's forward pass.

    Counted are convolutions, linear and recurrent layers, matrix products and attention, from the
    shapes of the values on the example inputs; the rest (activations, normalisation, pooling) is
    not. Of a branch that depends on data, the way that costs more is counted.
    """
    total = sum(math.prod(map(int, product)) for product in products(walk(program)))
    return total // program.example_inputs[0].shape[0]


def products(record: Walk) -> Iterator[Product]:
    """The products of lengths that `macs` adds up, of all operations in a walk."""
    return _products(record.values)


def _products(values: Mapping[fx.Node, Any]) -> Iterator[Product]:
    for node, value in values.items():
        args = fx.map_arg(node.args, values.__getitem__)
        count = _COUNTS.get(node.target)
        if isinstance(node.target, Branch):
            ways = [list(_products(_within(way, args[1:]))) for way in node.target.ways]
            yield from max(ways, key=lambda way: sum(math.prod(map(int, p)) for p in way))
        elif count is not None and (isinstance(value, Value) or count is _recurrent):
            yield from count(value, *args)


def _within(way: fx.Graph, operands: Sequence[Any]) -> dict[fx.Node, Any]:
    """The values of a way of a branch."""
    found = on_meta(way, [x.meta if isinstance(x, Value) else x for x in operands])
    return {n: described(x) if isinstance(x, Tensor) else x for n, x in found.items()}


def _all(value: Value) -> Product:
    return tuple(Length(value, dim) for dim in range(value.rank))


def _convolution(
    result: Value,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    *rest: object,
) -> Iterator[Product]:
    # Each output reads, or in the transposed case each input feeds, one filter's window.
    yield _all(x if transposed else result) + _all(weight)[1:]


def _linear(result: Value, x: Value, *rest: object) -> Iterator[Product]:
    yield (*_all(result), Length(x, -1))


def _addmm(result: Value, bias: Value, left: Value, *rest: object) -> Iterator[Product]:
    yield (*_all(result), Length(left, -1))


def _attention(
    result: Value, query: Value, key: Value, value: Value, *rest: object
) -> Iterator[Product]:
    # Scores q·kᵀ of L×S entries, then their product with the values.
    scores = (*_all(query)[:-1], Length(key, -2))
    yield (*scores, Length(query, -1))
    yield (*scores, Length(value, -1))


def _recurrent(
    result: object, x: Value, states: object, parameters: list[Value], *rest: object
) -> Iterator[Product]:
    # Every weight of every layer and direction is read once per sample and step.
    for weight in parameters:
        if weight.rank == 2:
            yield (Length(x, 0), Length(x, 1), Length(weight, 0), Length(weight, 1))


_COUNTS: dict[Any, Callable[..., Iterator[Product]]] = {
    aten.convolution.default: _convolution,
    aten.linear.default: _linear,
    aten.lstm.input: _recurrent,
    aten.gru.input: _recurrent,
    aten.rnn_tanh.input: _recurrent,
    aten.rnn_relu.input: _recurrent,
    aten.mm.default: _linear,
    aten.bmm.default: _linear,
    aten.mv.default: _linear,
    aten.matmul.default: _linear,
    aten.addmm.default: _addmm,
    aten.baddbmm.default: _addmm,
    aten.scaled_dot_product_attention.default: _attention,
}
