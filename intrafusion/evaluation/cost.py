"""Multiply-accumulates, counted from the shapes of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.program.program import Program, module_tree

aten = torch.ops.aten


def macs(program: Program) -> int:
    """Multiply-accumulates of one sample's forward pass.

    Counted are convolutions, linear layers, matrix products and attention, from the shapes of
    a run on the example inputs; the rest (activations, normalisation, pooling) is not.
    """
    counter = _Counter(program)
    with torch.no_grad():
        counter.run(*program.example_inputs)
    return counter.total // program.example_inputs[0].shape[0]


class _Counter(fx.Interpreter):
    def __init__(self, program: Program) -> None:
        root = module_tree(program.tensors, program.trainable)
        super().__init__(fx.GraphModule(root, program.graph))
        self.total = 0

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        count = _COUNTS.get(n.target)
        if count is not None:
            args, _ = self.fetch_args_kwargs_from_env(n)
            self.total += count(result, *args)
        return result


def _convolution(
    result: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    *rest: object,
) -> int:
    # Each output reads, or in the transposed case each input feeds, one filter's window.
    return (x if transposed else result).numel() * math.prod(weight.shape[1:])


def _linear(result: Tensor, x: Tensor, *rest: object) -> int:
    return result.numel() * x.shape[-1]


def _addmm(result: Tensor, bias: Tensor, left: Tensor, *rest: object) -> int:
    return result.numel() * left.shape[-1]


def _attention(result: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: object) -> int:
    # Scores q·kᵀ of L×S entries, then their product with the values.
    scores = query.numel() // query.shape[-1] * key.shape[-2]
    return scores * (query.shape[-1] + value.shape[-1])


_COUNTS: dict[Any, Callable[..., int]] = {
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
