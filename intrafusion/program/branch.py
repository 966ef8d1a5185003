"""A choice of two ways by what a tensor holds, as one operation of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from intrafusion.program import torch_private
from intrafusion.program.nodes import call_on_meta

Way = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class Branch:
    """Computes `then` or `otherwise`, of the same operands, as a condition holds or not.

    Attributes:
        then, otherwise: functional ATen graphs in normal form; a placeholder per operand, no
            attributes, a tuple of tensors as output.
    """

    then: fx.GraphModule
    otherwise: fx.GraphModule
    __name__ = "branch"
    """What `name_of` calls a node with this target."""

    def __call__(self, condition: Tensor | bool, *operands: Any) -> tuple[Tensor, ...]:
        """`condition` is one boolean. Without a value, on the meta device, the first way is
        taken: what both give is of the same shapes.
        """
        if torch.compiler.is_exporting():
            return choose(condition, self.then, self.otherwise, operands)
        if isinstance(condition, Tensor) and condition.is_meta:
            values = on_meta(self.then.graph, operands)
            return tuple(values[node] for node in returned(self.then.graph))
        taken: tuple[Tensor, ...] = (self.then if condition else self.otherwise)(*operands)
        return taken

    @property
    def ways(self) -> tuple[fx.Graph, fx.Graph]:
        return self.then.graph, self.otherwise.graph


def branch_of(then: fx.Graph, otherwise: fx.Graph) -> Branch:
    """The choice between two graphs; see `Branch`."""
    return Branch(fx.GraphModule(nn.Module(), then), fx.GraphModule(nn.Module(), otherwise))


def returned(way: fx.Graph) -> tuple[fx.Node, ...]:
    """The nodes whose tensors a way returns."""
    (values,) = way.output_node().args
    assert isinstance(values, tuple)
    return tuple(value for value in values if isinstance(value, fx.Node))


def on_meta(way: fx.Graph, operands: Sequence[Any]) -> dict[fx.Node, Any]:
    """What each node of a way gives for operands on the meta device, new tensors there too."""
    values: dict[fx.Node, Any] = {}
    given = iter(operands)
    for node in way.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "call_function":
            args = fx.map_arg(node.args, values.__getitem__)
            kwargs = fx.map_arg(node.kwargs, values.__getitem__)
            values[node] = call_on_meta(node, args, kwargs)
    return values


def nodes_within(graph: fx.Graph) -> Iterator[fx.Node]:
    """The nodes of a graph and of all ways of its branches."""
    for node in graph.nodes:
        yield node
        if isinstance(node.target, Branch):
            for way in node.target.ways:
                yield from nodes_within(way)


def copied(graph: fx.Graph, rewrite: Callable[[fx.Graph], fx.Graph]) -> fx.Graph:
    """A copy of a graph in which the ways of its branches are what `rewrite` makes of them."""
    result = fx.Graph()
    result.output(result.graph_copy(graph, {}))
    for node in result.nodes:
        if isinstance(node.target, Branch):
            node.target = branch_of(*map(rewrite, node.target.ways))
    return result


def choose(
    condition: Tensor | bool, then: Way, otherwise: Way, operands: tuple[Any, ...]
) -> tuple[Tensor, ...]:
    """A choice that `torch.export` puts into its graph as `torch.cond`.

    `torch.cond` wants every operand once, and no memory that operands or results share.
    """
    once = {id(operand): operand for operand in operands}
    places = [list(once).index(id(operand)) for operand in operands]

    def apart(way: Way) -> Way:
        def run(*given: Any) -> tuple[Tensor, ...]:
            results = way(*(given[place] for place in places))
            return _apart((*given, *results))[len(given) :]

        return run

    given = _apart(tuple(once.values()))
    return torch_private.cond(condition, apart(then), apart(otherwise), given)


def _apart(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values, tensors that share memory with one before them as copies."""
    seen: set[int] = set()
    result = []
    for value in values:
        if isinstance(value, Tensor):
            if torch_private.memory(value) in seen:
                value = value.clone()
            seen.add(torch_private.memory(value))
        result.append(value)
    return tuple(result)
