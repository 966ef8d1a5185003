"""How literals in the graph follow the channels that are gone."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, fx

from intrafusion.channels.planes import Flags, staying_lines, surviving_shape
from intrafusion.channels.walk import Value


@dataclass(frozen=True)
class Sizes:
    """The sizes of every value before and after, for the nodes of the original graph.

    Attributes:
        values: of each node of the original graph.
        alive: one boolean per atom.
        constants: tensors that the new graph needs and the original does not have.
    """

    values: Mapping[fx.Node, Any]
    alive: Flags
    constants: dict[str, Tensor] = field(default_factory=dict)

    def after(self, value: Value) -> list[int]:
        """The shape of `value` once the dead are gone, at the batch of the example inputs."""
        return surviving_shape(value.shape, value.planes, self.alive)

    def before_position(self, value: Value, dim: int, position: int) -> int:
        """How many lines of `value` along `dim` before `position` survive."""
        lines = self.staying_lines(value, dim)
        return position if lines is None else int(lines[:position].sum())

    def staying_lines(self, value: Value, dim: int) -> Flags | None:
        """Which lines (size,) of `value` along `dim` survive; None: no channel stands along it."""
        plane = value.plane_along(dim)
        return None if plane is None else staying_lines(plane, dim, self.alive)

    def constant(self, new: fx.Node, tensor: Tensor) -> fx.Node:
        """A node in the new graph, before `new`, that holds `tensor`."""
        name = f"{new.name}_index"
        self.constants[name] = tensor
        with new.graph.inserting_before(new):
            return new.graph.get_attr(name)

    def sized(self, new: fx.Node, old: fx.Node, literals: Sequence[Any]) -> list[Any]:
        """`literals`, the whole shape of what `old` gives, as what `new` gives is to have it."""
        value: Value = self.values[old]
        pairs = zip(literals, value.shape, self.after(value), strict=True)
        return [follow(new, literal, before, after) for literal, before, after in pairs]


Resize: TypeAlias = Callable[[fx.Node, fx.Node, Sizes], None]
"""(node in the new graph, its original, sizes): rewrites the new node's literals in place."""


def follow(new: fx.Node, literal: Any, before: int, after: int) -> Any:
    """`literal`, a size, once `before` channels have become `after`.

    A symbolic size, merged with the batch, is scaled; -1 stands for itself.
    """
    if before == after or literal == -1:
        return literal
    if isinstance(literal, int):
        return after
    graph = new.graph
    with graph.inserting_before(new):
        grown = graph.call_function(operator.mul, (literal, after))
        return graph.call_function(operator.floordiv, (grown, before))
