"""Batch norm, folded into the layer before it.

In evaluation a batch norm is an affine map per channel, so the convolution or linear layer that
feeds it alone can do its work. What the norm knew of its input is kept: β and |γ| are the mean
and the spread of what the layer puts out, which is all a data-free correction has to go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.channels.walk import walk
from intrafusion.program import Program
from intrafusion.program.nodes import arguments, copy_graph, count_uses, name_of, tensor_name


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation (channels,) of a layer's output, one per output channel."""

    mean: Tensor
    spread: Tensor


@dataclass(frozen=True)
class Norm:
    """A norm that is gone: its module's name, and its weight's dimension of output channels."""

    module: str
    dimension: int


@dataclass(frozen=True)
class Folded:
    """A program without foldable batch norms.

    Attributes:
        program: computes the same as the original.
        moments: for each weight that took in a norm the moments of the layer's output.
        norms: for each of these weights the norm it took in.
    """

    program: Program
    moments: Mapping[str, Moments]
    norms: Mapping[str, Norm]


@dataclass(frozen=True)
class _Pair:
    """A norm and the layer it can be folded into."""

    norm: fx.Node
    layer: fx.Node
    weight: str
    bias: str | None


def fold_batch_norm(program: Program, *, epsilon: bool = True) -> Folded:
    """Fold every batch norm whose input comes from one layer and goes nowhere else.

    ε stays inside the square root, or with `epsilon=False` is left out, and a bias is made where
    there was none. Norms behind a concatenation, a shared layer or a layer with a second reader
    stay.
    """
    graph, twins = copy_graph(program.graph)
    tensors = dict(program.tensors)
    trainable = set(program.trainable)
    moments: dict[str, Moments] = {}
    norms: dict[str, Norm] = {}
    for pair in _pairs(program):
        gamma, beta, mean, variance = _affine(pair.norm, program.tensors)
        weight = tensors[pair.weight]
        scale = gamma / torch.sqrt(variance + (arguments(pair.norm)[7] if epsilon else 0))
        view = [1] * weight.dim()
        view[_output_dim(pair.layer)] = -1
        offset = -mean if pair.bias is None else tensors[pair.bias].double() - mean
        bias = pair.bias or _bias_name(pair.weight, tensors)
        tensors[pair.weight] = (weight.double() * scale.view(view)).to(weight.dtype)
        tensors[bias] = (offset * scale + beta).to(weight.dtype)
        trainable.add(bias)
        moments[pair.weight] = Moments(beta.float(), gamma.abs().float())
        module = str(tensor_name(pair.norm, 3)).rpartition(".")[0]
        norms[pair.weight] = Norm(module, _output_dim(pair.layer))

        layer, norm = twins[pair.layer], twins[pair.norm]
        if pair.bias is None:
            with graph.inserting_before(layer):
                layer.args = (*layer.args[:2], graph.get_attr(bias), *layer.args[3:])
        norm.replace_all_uses_with(layer)
        graph.erase_node(norm)
        for source in pair.norm.all_input_nodes[1:]:
            if not twins[source].users:
                graph.erase_node(twins[source])
                tensors.pop(str(source.target), None)
                trainable.discard(str(source.target))
    graph.lint()
    return Folded(
        replace(program, graph=graph, tensors=tensors, trainable=frozenset(trainable)),
        moments,
        norms,
    )


def _pairs(program: Program) -> list[_Pair]:
    uses = count_uses(program.graph)

    @cache
    def values() -> Mapping[fx.Node, Any]:
        return walk(program).values

    pairs = []
    for node in program.graph.nodes:
        if node.op == "call_function" and name_of(node) == "batch_norm":
            layer = arguments(node)[0]
            if tensor_name(node, 3) and tensor_name(node, 4) and _is_foldable(layer, uses, values):
                weight = tensor_name(layer, 1)
                assert weight is not None
                pairs.append(_Pair(node, layer, weight, tensor_name(layer, 2)))
    return pairs


def _is_foldable(
    layer: fx.Node, uses: Counter[str], values: Callable[[], Mapping[fx.Node, Any]]
) -> bool:
    if layer.op != "call_function" or len(layer.users) > 1:
        return False
    name = name_of(layer)
    if name == "convolution":
        transposed, groups = arguments(layer)[6], arguments(layer)[8]
        if transposed and groups != 1:
            return False
    elif name == "linear":
        # A norm runs along dimension 1, a linear layer along the last: the same only in 2-D.
        if values()[layer].rank != 2:
            return False
    else:
        return False
    own = [argument for argument in arguments(layer)[1:3] if argument is not None]
    return all(source.op == "get_attr" and uses[str(source.target)] == 1 for source in own)


def _affine(norm: fx.Node, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """γ, β, mean and variance (channels,) of a norm, in float64."""
    names = [tensor_name(norm, position) for position in range(1, 5)]
    gamma, beta, mean, variance = (n if n is None else tensors[n].double() for n in names)
    assert mean is not None
    assert variance is not None
    return (
        torch.ones_like(mean) if gamma is None else gamma,
        torch.zeros_like(mean) if beta is None else beta,
        mean,
        variance,
    )


def _output_dim(layer: fx.Node) -> int:
    return 1 if name_of(layer) == "convolution" and arguments(layer)[6] else 0


def _bias_name(weight: str, tensors: Mapping[str, Tensor]) -> str:
    owner, _, leaf = weight.rpartition(".")
    name = f"{owner}.bias" if leaf == "weight" and owner else f"{weight}_bias"
    while name in tensors:
        name += "_"
    return name
