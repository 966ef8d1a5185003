"""A program as a module of torch's, for the writers that start from one."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from intrafusion.program import torch_private
from intrafusion.program.emit_outputs import nested
from intrafusion.program.program import Program, module_tree


def hold(program: Program, root: nn.Module) -> nn.Module:
    """Give `root` the program's parameters and buffers under all their names, aliases included."""
    module_tree({n: _compact(t) for n, t in program.tensors.items()}, program.trainable, root)
    for parameter in root.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    for alias, name in program.aliases.items():
        torch_private.tie(root, alias, name)
    return root.eval()


def graph_module(program: Program) -> fx.GraphModule:
    """The program as a module whose outputs nest as the original's; see `nested`."""
    graph = fx.Graph()
    returned = graph.graph_copy(program.graph, {})
    assert isinstance(returned, tuple | list)
    graph.output(nested(program.out_spec, returned))
    for node in graph.nodes:
        node.meta = {}
    module = fx.GraphModule(nn.Module(), fx.Graph())
    # The graph comes after the tensors: a GraphModule keeps of its root only what its graph
    # reads, and a file has every buffer of the original.
    hold(program, module)
    module.graph = graph
    return module


def _compact(tensor: Tensor) -> Tensor:
    """The tensor in a storage of its own size: files hold whole storages."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole and tensor.is_contiguous() else tensor.contiguous().clone()


def blank(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Zeros of the shapes of `inputs`: what is written to a file is nobody's samples."""
    return tuple(torch.zeros_like(x) for x in inputs)
