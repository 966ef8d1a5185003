"""Multiply-accumulates, counted from shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx

from intrafusion.channels.walk import Value, Walk, walk
from intrafusion.program import Program

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

    Counted are convolutions, linear layers, matrix products and attention, from the shapes of
    the values on the example inputs; the rest (activations, normalisation, pooling) is not.
    """
    total = sum(math.prod(map(int, product)) for product in products(walk(program)))
    return total // program.example_inputs[0].shape[0]


def products(record: Walk) -> Iterator[Product]:
    """The products of lengths that `macs` adds up, of all operations in a walk."""
    for node, value in record.values.items():
        count = _COUNTS.get(node.target)
        if count is not None and isinstance(value, Value):
            args = fx.map_arg(node.args, record.values.__getitem__)
            yield from count(value, *args)


def _all(value: Value) -> Product:
    return tuple(Length(value, dim) for dim in range(value.meta.dim()))


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


_COUNTS: dict[Any, Callable[..., Iterator[Product]]] = {
    aten.convolution.default: _convolution,
    aten.linear.default: _linear,
    aten.mm.default: _linear,
    aten.bmm.default: _linear,
    aten.mv.default: _linear,
    aten.matmul.default: _linear,
    aten.addmm.default: _addmm,
    aten.baddbmm.default: _addmm,
    aten.scaled_dot_product_attention.default: _attention,
}
