"""Arithmetic on sizes, which a trace keeps as tensors, done once.

`len(x) // windows` in traced code is a division of integer tensors without dimensions. What it
comes to may be the same at any batch size where its parts are not.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, fx

from intrafusion.program.exported import Capture

aten = torch.ops.aten


def fold_scalars(captured: Capture) -> Capture:
    """`captured` with every integer that is computed from constants alone as a constant.

    Where it says how often to repeat a value, it becomes a literal.
    """
    graph = fx.Graph()
    graph.output(graph.graph_copy(captured.graph, {}))
    values = _computed(graph, captured)
    tensors = dict(captured.tensors)
    for node, value in values.items():
        for user in list(node.users):
            if user.target is aten.repeat_interleave.self_Tensor and user.args[1] is node:
                user.target = aten.repeat_interleave.self_int
                user.update_arg(1, int(value))
        if node.op == "get_attr" or all(user in values for user in node.users):
            continue
        with graph.inserting_before(node):
            held = graph.get_attr(f"_{node.name}")
        held.meta = dict(node.meta)
        tensors[f"_{node.name}"] = value
        node.replace_all_uses_with(held)
    graph.eliminate_dead_code()
    read = {str(node.target) for node in graph.find_nodes(op="get_attr")}
    for node in values:
        if node.op == "get_attr" and str(node.target) not in read:
            tensors.pop(str(node.target), None)
    return replace(captured, graph=graph, tensors=tensors)


def _computed(graph: fx.Graph, captured: Capture) -> dict[fx.Node, Tensor]:
    """The integers without dimensions that follow from constants, by node, in order."""
    values: dict[fx.Node, Tensor] = {}
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target) not in captured.trainable:
            value = captured.tensors[str(node.target)]
        elif node.op == "call_function" and node.all_input_nodes:
            if any(source not in values for source in node.all_input_nodes):
                continue
            value = node.target(*fx.map_arg(node.args, values.__getitem__), **node.kwargs)
        else:
            continue
        if isinstance(value, Tensor) and value.dim() == 0 and value.dtype is torch.int64:
            values[node] = value
    return values
