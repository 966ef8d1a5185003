"""Places inside two programs that correspond: what a layer with weights reads, in each of them.

Layers keep the names of their weights, and the plan of the compressed program says which of their
inputs are left. So no more is needed to find them than the two programs themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from intrafusion.compensation.layers import layer_of
from intrafusion.compensation.layers.affine import Affine
from intrafusion.program import Program
from intrafusion.program.nodes import copy_graph, count_uses


@dataclass(frozen=True)
class Landmark:
    """A value that the original and the compressed program both compute.

    Attributes:
        original: the node in the original's graph.
        compressed: the node in the compressed program's graph.
        dim: the dimension that channels stand along.
        staying: (m,) the positions along it that are left in the compressed program.
    """

    original: fx.Node
    compressed: fx.Node
    dim: int
    staying: Tensor


def landmarks(original: Program, compressed: Program) -> list[Landmark]:
    """What the linear layers and convolutions of both programs read; the inputs are left out.

    Args:
        original: the program that `compressed` was made from.
        compressed: has a plan, and each layer whose weights it shares with no other is compared.
    """
    before, after = _affine(original), _affine(compressed)
    found: dict[fx.Node, Landmark] = {}
    for weight, layer in before.items():
        if weight in after and layer.source.op != "placeholder":
            staying = _staying(original, compressed, weight, layer.in_dim)
            source = after[weight].source
            found.setdefault(source, Landmark(layer.source, source, layer.channel_dim, staying))
    return list(found.values())


def with_insides(program: Program, nodes: list[fx.Node]) -> fx.GraphModule:
    """A module with `program`'s tensors that returns its outputs and the values of `nodes`."""
    graph, twins = copy_graph(program.graph)
    output = graph.output_node()
    output.args = ((output.args[0], tuple(twins[node] for node in nodes)),)
    return replace(program, graph=graph).network()


def _affine(program: Program) -> dict[str, Affine]:
    """The layers that read all channels of their input, by the names of their weights."""
    uses = count_uses(program.graph)
    layers = (layer_of(node, uses) for node in program.graph.nodes)
    return {
        layer.weight: layer for layer in layers if isinstance(layer, Affine) and layer.groups == 1
    }


def _staying(original: Program, compressed: Program, weight: str, dim: int) -> Tensor:
    """Which positions of `weight` along `dim` in the original the compressed program has."""
    before, after = (
        torch.arange(program.tensors[weight].shape[dim])
        if program.plan is None or dim not in program.plan.kept.get(weight, {})
        else torch.tensor(program.plan.kept[weight][dim])
        for program in (original, compressed)
    )
    return torch.isin(before, after).nonzero().reshape(-1).to(compressed.device)
