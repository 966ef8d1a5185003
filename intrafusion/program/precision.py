"""Half precision and bfloat16: computed in float32, and given back as they came.

Sums over hundreds of channels and the solutions of linear systems need more digits than these
have; a network that comes in with them is to go out with them all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx

from intrafusion.program.branch import copied, nodes_within
from intrafusion.program.program import Program

NARROW = frozenset({torch.float16, torch.bfloat16})

_NARROWED = "intrafusion_narrow"
"""The metadata of a node of a widened program: its literal dtypes in the original, by place.
Metadata goes where nodes are copied, and so through every step."""


def uses(program: Program, dtype: torch.dtype) -> bool:
    """Whether a program holds, takes or makes values of a narrow dtype."""
    return any(
        t.dtype is dtype for t in (*program.tensors.values(), *program.example_inputs)
    ) or any(dtype in _places(node).values() for node in nodes_within(program.graph))


def is_real(value: Any) -> TypeGuard[Tensor]:
    """Whether a value is a tensor of floating-point numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it is narrower, else itself."""
    return tensor.float() if tensor.dtype in NARROW else tensor


def widened(program: Program) -> Program:
    """The program computing in float32 wherever it computes in half precision or bfloat16.

    Where it does so nowhere, `program` itself. `narrowed` undoes it.
    """
    tensors = (*program.tensors.values(), *program.example_inputs)
    if not any(t.dtype in NARROW for t in tensors) and not any(
        map(_places, nodes_within(program.graph))
    ):
        return program
    return replace(
        program,
        graph=_widened(program.graph),
        tensors={name: wide(tensor) for name, tensor in program.tensors.items()},
        example_inputs=tuple(wide(x) for x in program.example_inputs),
    )


def narrowed(program: Program, original: Program) -> Program:
    """A program that was made from `widened(original)`, in the precision of `original`.

    Tensors that `original` lacks, such as biases that batch norm was folded into, take that of
    the weight beside them.
    """
    if not any(n.meta.get(_NARROWED) for n in nodes_within(program.graph)) and not any(
        t.dtype in NARROW for t in (*original.tensors.values(), *original.example_inputs)
    ):
        return program
    graph = _narrowed(program.graph)
    dtypes = {name: tensor.dtype for name, tensor in program.tensors.items()}
    for node in graph.find_nodes(op="get_attr"):
        if dtypes[str(node.target)].is_floating_point:
            beside = _beside(node, original.tensors)
            dtypes[str(node.target)] = beside or dtypes[str(node.target)]
    dtypes.update((name, tensor.dtype) for name, tensor in original.tensors.items())
    return replace(
        program,
        graph=graph,
        tensors={name: tensor.to(dtypes[name]) for name, tensor in program.tensors.items()},
        example_inputs=original.example_inputs,
    )


def _widened(graph: fx.Graph) -> fx.Graph:
    result = copied(graph, _widened)
    for node in result.nodes:
        places = _places(node)
        if places:
            _put(node, dict.fromkeys(places, torch.float32))
            node.meta[_NARROWED] = places
    return result


def _narrowed(graph: fx.Graph) -> fx.Graph:
    result = copied(graph, _narrowed)
    for node in result.nodes:
        _put(node, node.meta.pop(_NARROWED, {}))
    return result


def _places(node: fx.Node) -> dict[int | str, torch.dtype]:
    """The literals of a node that name a narrow dtype, by position or keyword."""
    given: list[tuple[int | str, Any]] = [*enumerate(node.args), *node.kwargs.items()]
    return {
        place: value for place, value in given if isinstance(value, torch.dtype) and value in NARROW
    }


def _put(node: fx.Node, dtypes: Mapping[int | str, torch.dtype]) -> None:
    for place, dtype in dtypes.items():
        if isinstance(place, int):
            node.update_arg(place, dtype)
        else:
            node.update_kwarg(place, dtype)


def _beside(node: fx.Node, tensors: Mapping[str, Tensor]) -> torch.dtype | None:
    """The dtype of the floating-point tensors that a node's readers read besides it."""
    for user in node.users:
        for source in user.all_input_nodes:
            tensor = tensors.get(str(source.target)) if source.op == "get_attr" else None
            if tensor is not None and tensor.is_floating_point():
                return tensor.dtype
    return None
