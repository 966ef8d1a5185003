"""TorchScript's own graphs, which torch keeps to itself: reading and running parts of them.

Nodes, values and blocks are `torch._C`'s, which have no types to name here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

TO_NUMBER: dict[str, torch.dtype | None] = {
    "aten::Bool": torch.bool,
    "aten::is_nonzero": torch.bool,
    "aten::Int": torch.int64,
    "aten::IntImplicit": torch.int64,
    "aten::Float": torch.float64,
    "aten::FloatImplicit": torch.float64,
    "aten::ScalarImplicit": None,
    "aten::item": None,
}
"""What makes a number of a tensor's entry, and which; None: that of the tensor."""


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor."""
    return bool(value.type().kind() == "TensorType")


def data_dependent_branches(script: torch.jit.ScriptModule) -> list[str]:
    """Where `forward` asks what a tensor holds to choose what to do: source ranges as torch
    prints them, file, line and code.
    """
    graph = _whole_graph(script)
    branches = [*graph.findAllNodes("prim::If"), *graph.findAllNodes("prim::Loop")]
    return [
        node.sourceRange()
        for node in branches
        if any(_holds_data(value.node()) for value in _conditions(node))
    ]


def _whole_graph(script: torch.jit.ScriptModule) -> Any:
    """The graph of `forward` with all that it calls in it."""
    graph = script.inlined_graph
    # Once some of a module has run, that leaves out what has not.
    torch._C._jit_pass_inline(graph)
    return graph


def _conditions(node: Any) -> list[Any]:
    inputs = list(node.inputs())
    return inputs[:1] if node.kind() == "prim::If" else inputs[:2]


def _holds_data(node: Any) -> bool:
    """Whether a number comes from a tensor's entries."""
    pending, seen = [node], set()
    while pending:
        node = pending.pop()
        if node.kind() in TO_NUMBER and is_tensor(node.inputsAt(0)):
            return True
        for value in node.inputs():
            if not is_tensor(value) and value.debugName() not in seen:
                seen.add(value.debugName())
                pending.append(value.node())
    return False


def without_attributes(
    script: torch.jit.ScriptModule,
) -> tuple[Any, list[Any], list[tuple[Any, str]]]:
    """The graph of `forward` that reads no attribute, its inputs but `self`, and inputs that
    stand for attributes now, each with its dotted name.
    """
    graph = _whole_graph(script)
    own, *inputs = graph.inputs()
    paths = {own.debugName(): ""}
    attributes = []
    for node in graph.findAllNodes("prim::GetAttr"):
        before, value = paths[node.inputsAt(0).debugName()], node.output()
        path = f"{before}.{node.s('name')}".removeprefix(".")
        if value.type().kind() == "ClassType":
            paths[value.debugName()] = path
            continue
        stand_in = graph.addInput()
        stand_in.setType(value.type())
        value.replaceAllUsesWith(stand_in)
        attributes.append((stand_in, path))
    dead: Callable[[Any], None] = vars(torch._C)["_jit_pass_dce"]
    dead(graph)
    _constants_first(graph)
    return graph, inputs, attributes


def _constants_first(graph: Any) -> None:
    """Move what makes a tensor of written numbers to the top: within a way of `torch.cond` torch
    cannot take writes in place apart where there is such a tensor.
    """
    for node in graph.findAllNodes("aten::tensor"):
        needed = [node]
        for reader in needed:
            needed += [value.node() for value in reader.inputs()]
        kinds = {source.kind() for source in needed[1:]}
        if kinds <= {"prim::Constant", "prim::ListConstruct"}:
            for source in needed:  # Last to be moved, and so first, is what is read by others.
                source.moveAfter(graph.param_node())


def defaults(script: torch.jit.ScriptModule) -> list[Any]:
    """For each argument of `forward` but `self` its default, None where it has none."""
    schema = script._c._get_method("forward").schema
    return [a.default_value if a.has_default_value() else None for a in schema.arguments[1:]]


def piece(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """A function of `inputs` that runs some nodes of a TorchScript graph, in order, and returns
    `outputs`, which are among theirs, as a tuple.
    """
    graph: Any = torch._C.Graph()
    values: dict[str, Any] = {}
    for value in inputs:
        values[value.debugName()] = graph.addInput()
        values[value.debugName()].setType(value.type())
    for node in nodes:
        clone = graph.createClone(node, lambda value: values[value.debugName()])
        graph.appendNode(clone)
        made = zip(node.outputs(), clone.outputs(), strict=True)
        values.update((value.debugName(), twin) for value, twin in made)
    returned = [values[value.debugName()] for value in outputs]
    packed = graph.create("prim::TupleConstruct", returned, 1)
    packed.output().setType(torch._C.TupleType([value.type() for value in outputs]))
    graph.appendNode(packed)
    graph.registerOutput(packed.output())
    # Not as a ScriptFunction: those refuse to be exported.
    interpret: Any = vars(torch._C)["_jit_interpret_graph"]
    return lambda *given: interpret(graph, given)


def changes_container(node: Any) -> bool:
    """Whether a TorchScript node changes a list or a dictionary."""
    return re.search(r"\((?:\w+\[\]|Dict\(.*?\))\(a!\)", node.schema()) is not None


def writes_within(block: Any) -> bool:
    """Whether something in a block writes to a tensor in place."""
    return any(
        re.search(r"Tensor\(\w+!\)", node.schema()) or any(map(writes_within, node.blocks()))
        for node in block.nodes()
    )


def is_size(value: Any) -> bool:
    """Whether a tensor of a TorchScript graph was made of sizes and constants alone."""
    node = value.node()
    if node.kind() in ("prim::NumToTensor", "prim::Constant"):
        return True
    tensors = [value for value in node.inputs() if is_tensor(value)]
    return bool(tensors) and all(map(is_size, tensors))
