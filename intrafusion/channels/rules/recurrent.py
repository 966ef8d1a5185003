"""LSTM, GRU and plain recurrent layers: one operation over all steps, layers and directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from intrafusion.channels.planes import FROZEN, Plane, along, row
from intrafusion.channels.rules.contraction import contract
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.walk import Planes, Rule, Value, Walk
from intrafusion.program.nodes import arguments, name_of

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Rows of a weight per hidden unit."""

_ZEROS = {"zeros", "new_zeros", "zeros_like"}


def recurrent(gates: int) -> Rule:
    """The rule of a layer with so many gates.

    Hidden unit j stands in a row of each gate, in one recurrent column and in one output. The
    operation takes one hidden size for all layers and directions, so unit j is one in all of
    them.
    """

    def rule(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> list[Planes]:
        x, hidden, parameters, biased, layers, _, _, bidirectional = args[:8]
        states = hidden if isinstance(hidden, list) else [hidden]
        directions = 2 if bidirectional else 1
        count = 4 if biased else 2
        if len(parameters) != layers * directions * count or not all(
            map(_is_zeros, _sources(node))
        ):
            return _freeze_all(walk, node, [x, *parameters], out)
        read: Value = x
        units: list[Plane] = []
        for layer in range(layers):
            made = []
            for direction in range(directions):
                start = (layer * directions + direction) * count
                own = parameters[start : start + count]
                contract(walk, node, read, -1, own[0], 1)
                made.append(_hidden_units(walk, own, gates))
            for labels in made:
                walk.tie(labels, made[0])
            walk.tie(made[0], units[0] if units else made[0])
            units = made
            labels = np.concatenate(made)
            read = Value((*x.shape[:-1], len(labels)), x.dtype, (along(labels, -1, x.rank),))
        ends = [(along(units[0], -1, state.rank),) for state in out[1:]]
        assert len(ends) == len(states)
        return [read.planes, *ends]

    return rule


def resize(new: fx.Node, old: fx.Node, sizes: Sizes) -> None:
    """The first hidden state, all zeros, is cut to what is left."""
    after = sizes.after(sizes.values[old][1])[-1]
    if after == sizes.values[old][1].shape[-1]:
        return

    def cut(state: fx.Node) -> fx.Node:
        with new.graph.inserting_before(new):
            return new.graph.call_function(torch.ops.aten.slice.Tensor, (state, -1, 0, after))

    hidden = arguments(new)[1]
    cut_hidden = [cut(state) for state in hidden] if isinstance(hidden, list) else cut(hidden)
    new.args = (new.args[0], cut_hidden, *new.args[2:])


def _hidden_units(walk: Walk, own: list[Value], gates: int) -> Plane:
    """Tie what belongs to each hidden unit of one layer and direction; its labels (hidden,)."""
    column = _labels(own[1], 1)
    walk.consume(column)
    for parameter in own:
        rows = _labels(parameter, 0)
        if parameter.rank > 1:
            walk.produce(rows)
        walk.tie(rows.reshape(gates, -1), column[None])
    return column


def _labels(value: Value, dim: int) -> Plane:
    plane = value.plane_along(dim)
    if plane is None:
        return np.full(value.shape[dim], FROZEN, np.int32)
    return row(plane, dim)


def _sources(node: fx.Node) -> list[fx.Node]:
    hidden = arguments(node)[1]
    return list(hidden) if isinstance(hidden, (list, tuple)) else [hidden]


def _is_zeros(node: fx.Node) -> bool:
    if name_of(node) == "slice":
        return _is_zeros(arguments(node)[0])
    if name_of(node) in _ZEROS:
        return True
    return name_of(node) in ("full", "new_full", "full_like") and arguments(node)[-1] == 0


def _freeze_all(walk: Walk, node: fx.Node, values: list[Value], out: Any) -> list[Planes]:
    for value in values:
        for plane in value.planes:
            walk.freeze(plane, node, "a recurrent layer with a given state or a projection")
    return [()] * len(out)
