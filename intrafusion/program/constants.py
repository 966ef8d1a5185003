"""Weights that are computed from other weights, computed once.

Weight norm, spectral norm and weight standardisation make a layer's weight anew in every forward
pass. In a trained network the result is a constant, and only as one it can be pruned.
"""

from __future__ import annotations

import operator
import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.program.nodes import call, copy_graph, name_of
from intrafusion.program.program import Program

_REARRANGING = frozenset(
    [
        "reshape",
        "view",
        "permute",
        "transpose",
        "t",
        "squeeze",
        "unsqueeze",
        "slice",
        "select",
        "expand",
        "split",
        "split_with_sizes",
        "unbind",
        "index",
        "index_select",
        "gather",
        "embedding",
        "cat",
        "stack",
        "_to_copy",
    ]
)
"""Operations that leave a parameter what it is: following them keeps its name."""


def fold_constants(program: Program) -> Program:
    """`program` with every computed weight replaced by its value.

    The value takes the name of the weight it came from, as the module calls it: `conv.weight`
    for `conv.parametrizations.weight.original0` and `original1`. A note says what was computed.
    """
    constant = _computed(program)
    values: dict[fx.Node, Any] = {}
    constant = {
        n: s for n, s in constant.items() if isinstance(_evaluate(n, program, values), Tensor)
    }
    if not constant:
        return program
    graph, twins = copy_graph(program.graph)
    tensors, trainable = dict(program.tensors), set(program.trainable)
    notes = list(program.notes)
    for node, sources in constant.items():
        main = max(sources, key=lambda name: program.tensors[name].numel())
        value = values[node]
        with graph.inserting_before(twins[node]):
            held = graph.create_node("get_attr", "")
        twins[node].replace_all_uses_with(held)
        graph.eliminate_dead_code()
        still_read = {str(n.target) for n in graph.find_nodes(op="get_attr")}
        for name in sources - still_read:
            tensors.pop(name, None)
            trainable.discard(name)
        name = _name(main, tensors)
        held.target = name
        tensors[name] = value
        trainable.add(name)
        if sources != {name}:
            notes.append(f"{name} was computed once from {', '.join(sorted(sources))}.")
    graph.lint()
    return replace(
        program,
        graph=graph,
        tensors=tensors,
        trainable=frozenset(trainable),
        notes=tuple(notes),
    )


def _computed(program: Program) -> dict[fx.Node, set[str]]:
    """The last nodes of every computation on parameters alone, and the parameters it reads."""
    roots: dict[fx.Node, set[str]] = {}
    computing: set[fx.Node] = set()
    for node in program.graph.nodes:
        if node.op == "get_attr":
            roots[node] = {str(node.target)}
        elif node.op == "call_function" and not _draws(node):
            inputs = node.all_input_nodes
            if all(source in roots for source in inputs):
                roots[node] = set().union(*(roots[source] for source in inputs))
                moved = name_of(node) in _REARRANGING or node.target is operator.getitem
                if not moved or any(source in computing for source in inputs):
                    computing.add(node)
    return {
        node: roots[node] & program.trainable
        for node in computing
        if roots[node] & program.trainable and any(user not in roots for user in node.users)
    }


def _draws(node: fx.Node) -> bool:
    """Whether an operation draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _evaluate(node: fx.Node, program: Program, values: dict[fx.Node, Any]) -> Any:
    """What `node` comes to; `values` holds what was evaluated before."""
    if node not in values:
        if node.op == "get_attr":
            values[node] = program.tensors[str(node.target)]
        else:
            args = fx.map_arg(node.args, lambda source: _evaluate(source, program, values))
            kwargs = fx.map_arg(node.kwargs, lambda source: _evaluate(source, program, values))
            with torch.no_grad():
                values[node] = call(node, args, kwargs)
    return values[node]


def _name(source: str, taken: dict[str, Tensor]) -> str:
    name = re.sub(r"\.parametrizations\.(\w+)\.original\d*$", r".\1", f".{source}")[1:]
    name = re.sub(r"(\w)_(g|v|orig)$", r"\1", name)
    while name in taken:
        name += "_"
    return name
