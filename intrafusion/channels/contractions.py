"""Channels that are summed over where two activations are multiplied, as in q·k of an attention.

No parameter reads such channels, so none can be given the sum of what c fused units read: each
unit that stands for c has to be √c as large on either side. That takes parameters upstream whose
output goes nowhere else; this module finds them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import fx

from intrafusion.channels.planes import FROZEN, Flags, Plane, along, row, varying
from intrafusion.channels.runs import joined
from intrafusion.channels.walk import Value, Walk, values_in
from intrafusion.program import torch_private
from intrafusion.program.nodes import MOVING, arguments, count_uses, name_of

_MOVING = MOVING | {"cat", "stack", "repeat"}
_SCALING = frozenset(["neg", "mul", "div", "relu", "leaky_relu"])
"""Operations that are twice as large where their first activation is."""

_ADDING = frozenset(["add", "sub"])
_CHANNEL = {
    "linear": -1,
    "convolution": 1,
    "layer_norm": -1,
    "rms_norm": -1,
    "batch_norm": 1,
    "instance_norm": 1,
    "group_norm": 1,
}
"""Along which dimension of its result a layer's or norm's parameters have their channels."""


@dataclass
class _Trail:
    """How far upstream some channels of a node's value have been followed.

    Attributes:
        atoms: the channels.
        origins: the contractions they come to, by number.
    """

    atoms: Plane = field(default_factory=lambda: np.zeros(0, np.int32))
    origins: set[int] = field(default_factory=set)


def scalable_atoms(graph: fx.Graph, walk: Walk) -> Flags:
    """One boolean per atom: scaling it by √c gives c times what the contractions sum up.

    A contraction is left out as a whole where one of its sides cannot be scaled without
    changing something else.
    """
    failed: set[int] = set()
    if not walk.contractions:
        return np.zeros(walk.atoms, np.bool_)
    uses = count_uses(graph)
    while True:
        search = _Search(walk, uses, failed)
        for node in reversed(graph.nodes):
            search.visit(node)
        if search.failed == failed:
            return search.scaled
        failed = search.failed


class _Search:
    """One pass against the direction of the graph, from all contractions that have not failed."""

    def __init__(self, walk: Walk, uses: Counter[str], failed: set[int]) -> None:
        self.scaled = np.zeros(walk.atoms, np.bool_)
        self._marked = np.zeros(walk.atoms, np.bool_)
        self.failed = set(failed)
        self._walk = walk
        self._uses = uses
        self._trails: dict[fx.Node, _Trail] = {}
        self._followed: set[tuple[fx.Node, fx.Node]] = set()
        for number, (node, planes) in enumerate(walk.contractions):
            leaves, _ = torch_private.flatten(node.args)
            operands = [leaf for leaf in leaves if isinstance(leaf, fx.Node)]
            for operand, plane in zip(operands, planes, strict=False):
                if number not in failed:
                    self._follow(node, operand, self._once(plane), {number})

    def visit(self, node: fx.Node) -> None:
        """Go on from `node` to what has to be scaled for its channels to be."""
        trail = self._trails.get(node)
        if trail is None:
            return
        name = _name(node)
        if not all(self._leaves_alone(user, node, trail) for user in node.users):
            self.failed |= trail.origins
        elif name in _MOVING:
            for source in node.all_input_nodes:
                atoms = trail.atoms[self._among(trail.atoms, self._labels(source))]
                if len(atoms):
                    self._follow(node, source, atoms, trail.origins)
        elif name in _SCALING:
            self._follow_met(node, node.args[0], trail)
        elif name in _ADDING and len(node.all_input_nodes) == 2:
            for source in node.all_input_nodes:
                self._follow_met(node, source, trail)
        elif name in _CHANNEL or name == "get_attr":
            self._scale_parameters(node, trail)
        else:
            self.failed |= trail.origins

    def _scale_parameters(self, node: fx.Node, trail: _Trail) -> None:
        sources = [node] if node.op == "get_attr" else _parameters(node)
        found = [self._met(node, source, trail.atoms) for source in sources]
        alone = all(self._uses[str(source.target)] == 1 for source in sources)
        if not sources or not alone or not all(len(atoms) for atoms in found):
            self.failed |= trail.origins
            return
        for atoms in found:
            self.scaled[atoms] = True

    def _follow_met(self, node: fx.Node, source: Any, trail: _Trail) -> None:
        atoms = self._met(node, source, trail.atoms)
        if len(atoms):
            self._follow(node, source, atoms, trail.origins)
        else:
            self.failed |= trail.origins

    def _follow(self, node: fx.Node, source: fx.Node, atoms: Plane, origins: set[int]) -> None:
        trail = self._trails.setdefault(source, _Trail())
        trail.atoms = self._once(joined([trail.atoms, atoms])) if len(trail.atoms) else atoms
        trail.origins |= origins
        self._followed.add((node, source))

    def _leaves_alone(self, user: fx.Node, node: fx.Node, trail: _Trail) -> bool:
        """Whether `user` would not notice that the channels of `node` are scaled."""
        if (user, node) in self._followed:
            return True
        return _name(user) in _MOVING and not self._among(trail.atoms, self._labels(user)).any()

    def _labels(self, node: fx.Node) -> Plane:
        return joined(plane.reshape(-1) for value in self._values(node) for plane in value.planes)

    def _once(self, labels: Plane) -> Plane:
        """The atoms among `labels`, of which there are some, each once, but the frozen one."""
        first = labels.min()
        near = self._marked[first : labels.max() + 1]  # the channels of a layer are close together
        near[labels - first] = True
        self._marked[FROZEN] = False
        atoms: Plane = near.nonzero()[0].astype(np.int32) + first
        near[:] = False
        return atoms

    def _among(self, labels: Plane, atoms: Plane) -> Flags:
        """Which of `labels` are among `atoms`, the frozen one excepted."""
        self._marked[atoms] = True
        self._marked[FROZEN] = False
        found: Flags = self._marked[labels]
        self._marked[atoms] = False
        return found

    def _values(self, node: fx.Node) -> list[Value]:
        return values_in([self._walk.values[node]])

    def _met(self, node: fx.Node, source: Any, atoms: Plane) -> Plane:
        """The atoms of `source` that stand where `node` has `atoms`."""
        if not isinstance(source, fx.Node):
            return _Trail().atoms
        value = self._walk.values[node]
        for plane in value.planes:
            for other in self._laid_out(node, source):
                if set(varying(plane)) & set(varying(other)):
                    here = self._among(plane, atoms)
                    if here.any():
                        here, there = np.broadcast_arrays(here, other)
                        return self._once(there[here])
        return _Trail().atoms

    def _laid_out(self, node: fx.Node, source: fx.Node) -> list[Plane]:
        """The planes of `source` in the shape of `node`: parameters along its channels."""
        value: Value = self._walk.values[source]
        own: Value = self._walk.values[node]
        if node is source or name_of(node) not in _CHANNEL:
            lead = (1,) * (own.rank - value.rank)
            return [plane.reshape(lead + plane.shape) for plane in value.planes]
        made = value.plane_along(0)
        dim = _CHANNEL[name_of(node)]
        if made is None or value.shape[0] != own.shape[dim]:
            return []
        return [along(row(made, 0), dim, own.rank)]


def _parameters(node: fx.Node) -> list[fx.Node]:
    """The scale and shift of a norm, or the weight and bias of a layer."""
    first = 2 if name_of(node) in ("layer_norm", "rms_norm", "group_norm") else 1
    given = [a for a in arguments(node)[first : first + 2] if isinstance(a, fx.Node)]
    return given if all(a.op == "get_attr" for a in given) else []


def _name(node: fx.Node) -> str:
    return name_of(node) if node.op == "call_function" else node.op
