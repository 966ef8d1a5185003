"""One pass over the graph: which atoms must live and die together, and which must stay.

Values are known by their shapes alone while each operation's rule moves their planes. Nothing is
joined while walking: rules only record ties, which `units.py` solves at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx

from intrafusion.channels.planes import FROZEN, Plane, along, broadcast, is_frozen, varying
from intrafusion.channels.shapes import SHAPES, Shape
from intrafusion.program import Program
from intrafusion.program.nodes import call, call_on_meta, name_of

LONE = "one channel of it is used on its own"
"""Why channels stay that end up where there is nothing to tell them apart from."""

Planes: TypeAlias = tuple[Plane, ...]

Tie: TypeAlias = tuple[Plane, Plane]
"""Two vectors of atoms that live and die together, entry by entry."""


@dataclass(frozen=True)
class Value:
    """A tensor while walking: its shape and dtype, its planes, its data if constant."""

    shape: Shape
    dtype: torch.dtype
    planes: Planes = ()
    data: Tensor | None = None

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    @cached_property
    def meta(self) -> Tensor:
        """A tensor of the shape and dtype, on the meta device."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")

    def plane_along(self, dim: int) -> Plane | None:
        """The plane that distinguishes channels along `dim` (at most one does)."""
        for plane in self.planes:
            if plane.shape[dim] > 1:
                return plane
        return None

    def without(self, dim: int) -> Planes:
        """The planes that distinguish nothing along `dim`."""
        return tuple([plane for plane in self.planes if plane.shape[dim] == 1])


Rule: TypeAlias = Callable[["Walk", fx.Node, tuple[Any, ...], dict[str, Any], Any], Any]
"""(walk, node, arguments with Values for tensors, keyword arguments, result without planes) → the
planes of the result: a tuple, or a list of such tuples where there are several results."""


@dataclass(frozen=True)
class Freeze:
    """Atoms that must stay, the node that said so, and why."""

    atoms: Plane
    node: fx.Node
    reason: str
    quiet: bool = False


@dataclass(frozen=True)
class Rect:
    """A grid of atoms (rows, columns) of which every row must keep the same number.

    An `aligned` one must keep the same columns in every row, or rows whole.
    """

    grid: Plane
    node: fx.Node
    aligned: bool = False


@dataclass
class Walk:
    """The record of one pass. Rules write to it through `tie`, `freeze`, `rect` and `warn`."""

    ranges: dict[tuple[str, int], range] = field(default_factory=dict)
    atoms: int = FROZEN + 1
    ties: list[Tie] = field(default_factory=list)
    lines: list[Tie] = field(default_factory=list)
    freezes: list[Freeze] = field(default_factory=list)
    rects: list[Rect] = field(default_factory=list)
    warnings: list[tuple[Plane, str]] = field(default_factory=list)
    produced: list[Plane] = field(default_factory=list)
    consumed: list[Plane] = field(default_factory=list)
    parts: list[Plane] = field(default_factory=list)
    contractions: list[tuple[fx.Node, tuple[Plane, Plane]]] = field(default_factory=list)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    seeds: Mapping[tuple[str, int], Plane] | None = None
    whole_heads: bool = False
    _known_produced: bytearray = field(default_factory=bytearray)

    def tie(self, a: Plane, b: Plane) -> None:
        """Entries of `a` and `b` that meet at one (broadcast) position live and die together."""
        self.ties.append(_pairs(a, b))

    def tie_along(self, plane: Plane, dims: Iterable[int]) -> None:
        """All entries of `plane` along `dims` live and die together, though they never meet."""
        for dim in dims:
            self.lines.append(_pairs(plane, plane.take([0], dim)))

    def freeze(self, plane: Plane, node: fx.Node, reason: str, *, quiet: bool = False) -> None:
        """The entries of `plane` must stay. `quiet`: not worth telling the user."""
        self.freezes.append(Freeze(plane.reshape(-1), node, reason, quiet))

    def rect(self, grid: Plane, node: fx.Node, *, aligned: bool = False) -> None:
        """Every row of `grid` (rows, columns) must keep the same number of entries.

        `aligned`: the same columns, or rows whole.
        """
        self.rects.append(Rect(grid, node, aligned))

    def rectangle(self, plane: Plane, node: fx.Node) -> None:
        """What is left of `plane` must be whole lines along every dimension."""
        for dim in varying(plane)[:0:-1]:
            lines = plane.transpose(*range(dim), *range(dim + 1, plane.ndim), dim)
            self.rect(lines.reshape(-1, lines.shape[-1]), node, aligned=True)

    def part(self, plane: Plane) -> None:
        """The entries of `plane` go a way of their own: they are not like those left behind."""
        self.parts.append(plane.reshape(-1))

    def warn(self, plane: Plane, text: str) -> None:
        """Say `text` of the groups that `plane` belongs to."""
        self.warnings.append((plane.reshape(-1), text))

    def produce(self, plane: Plane) -> None:
        """The entries of `plane` are where channels come into being."""
        self.produced.append(plane.reshape(-1))
        if self.whole_heads:
            known = len(self._known_produced)
            self._known_produced.extend(bytes(max(0, 1 + int(plane.max()) - known)))
            np.frombuffer(self._known_produced, np.bool_)[plane] = True

    def are_produced(self, plane: Plane) -> bool:
        """Whether some layer made any of the channels of `plane`; known with `whole_heads`."""
        known = np.frombuffer(self._known_produced, np.bool_)
        return bool(known[plane[(plane < len(known)) & (plane != FROZEN)]].any())

    def consume(self, plane: Plane) -> None:
        """The entries of `plane` are where channels are read and summed over."""
        self.consumed.append(plane.reshape(-1))

    def label(self, name: str, shape: Shape) -> Planes:
        """Fresh atoms for every dimension of a parameter or buffer; the same on a second use."""
        return tuple(
            [
                along(self.column(name, dim, size), dim, len(shape))
                for dim, size in enumerate(shape)
                if size > 1
            ]
        )

    def column(self, name: str, dim: int, size: int) -> Plane:
        """Fresh atoms for one dimension; the same on a second use.

        Of a parameter, a buffer, or a tensor that the graph makes, by a name that is no other's.
        """
        if self.seeds is not None:
            # What surgery added, such as a renumbered index, has no channels to follow.
            return self.seeds.get((name, dim), np.full(size, FROZEN, np.int32))
        atoms = self.ranges.get((name, dim))
        if atoms is None:
            atoms = self.ranges[name, dim] = range(self.atoms, self.atoms + size)
            self.atoms = atoms.stop
        return np.arange(atoms.start, atoms.stop, dtype=np.int32)


def _pairs(a: Plane, b: Plane) -> Tie:
    """The entries of two planes that broadcast together, as vectors."""
    if a.shape != b.shape:
        met = np.broadcast(a, b)
        if not met.size == a.size == b.size:
            a, b = broadcast(a, met.shape), broadcast(b, met.shape)
    return a.reshape(-1), b.reshape(-1)


def walk(
    program: Program,
    seeds: Mapping[tuple[str, int], Plane] | None = None,
    *,
    whole_heads: bool = False,
) -> Walk:
    """Walk the graph of `program` once, at the batch of its example inputs.

    `seeds` gives the atoms of each (tensor, dimension) instead of fresh ones: to follow the
    atoms of an earlier walk through a program that has lost some of them. With `whole_heads`
    the heads of an attention are units, else the channels that all its heads have.
    """
    from intrafusion.channels.rules import rule_for

    record = Walk(seeds=seeds, whole_heads=whole_heads)
    inputs = iter(program.example_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            example = next(inputs)
            record.values[node] = Value(tuple(example.shape), example.dtype)
        elif node.op == "get_attr":
            tensor = program.tensors[node.target]
            shape = tuple(tensor.shape)
            planes = record.label(node.target, shape)
            record.values[node] = Value(shape, tensor.dtype, planes, tensor)
        elif node.op == "call_function":
            record.values[node] = _call(record, node, rule_for(node))
        elif node.op == "output":
            for value in values_in(record.values[source] for source in node.all_input_nodes):
                for plane in value.planes:
                    record.freeze(plane, node, "it is an output of the network")
    return record


def _call(record: Walk, node: fx.Node, rule: Rule) -> Any:
    args: Any = fx.map_arg(node.args, record.values.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, record.values.__getitem__) if node.kwargs else {}
    if node.target is operator.getitem:
        return args[0][args[1]]  # the list of values of an operation with several results
    inputs = values_in(map(record.values.__getitem__, node.all_input_nodes))
    if not inputs:
        result = call(node, args, kwargs)
        if not isinstance(result, Tensor):
            return result
        made = described(result, result)
        # What has channels of its own is no constant: it changes with them.
        planes = rule(record, node, tuple(args), dict(kwargs), made)
        return Value(made.shape, made.dtype, planes) if planes else made
    out = _result(node, inputs, args, kwargs)
    planes = rule(record, node, tuple(args), dict(kwargs), out)
    if isinstance(out, Sequence):
        pairs = zip(out, planes, strict=True)
        return [_with_planes(record, node, part, own, inputs) for part, own in pairs]
    return _with_planes(record, node, out, planes, inputs)


def _with_planes(
    record: Walk, node: fx.Node, out: Any, planes: Planes, inputs: Sequence[Value]
) -> Any:
    """A result with what can be followed further of its planes; a number has none."""
    if not isinstance(out, Value):
        return out
    for value in inputs:
        if planes is value.planes:
            break  # they have been followed so far
    else:
        planes = _live(record, node, planes, out.shape)
    return Value(out.shape, out.dtype, planes) if planes else out


def described(tensor: Tensor, data: Tensor | None = None) -> Value:
    """The value of a tensor that has no channels."""
    return Value(tuple(tensor.shape), tensor.dtype, data=data)


def _result(node: fx.Node, inputs: list[Value], args: Any, kwargs: Any) -> Any:
    """What `node` gives for `inputs`, which are among its arguments, planes left out: a value, a
    sequence of them, or a number.
    """
    rule = SHAPES.get(name_of(node))
    dtype = None if rule is None else _dtype(inputs, args, kwargs)
    if rule is not None and dtype is not None:
        shape = rule(*args, **kwargs)
        if isinstance(shape, tuple):
            return Value(shape, dtype)
        if shape is not None:
            return [Value(part, dtype) for part in shape]
    result = call_on_meta(node, _metas(args), {k: _metas(v) for k, v in kwargs.items()})
    if isinstance(result, Tensor):
        return described(result)
    if isinstance(result, Sequence):
        return [described(part) if isinstance(part, Tensor) else part for part in result]
    return result


def _dtype(inputs: list[Value], args: Any, kwargs: Any) -> torch.dtype | None:
    """The dtype of a result: the one asked for, or else that of the first input, if that is a
    floating one that no other input changes; None: it takes more to tell.
    """
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, torch.dtype):
            return argument
    first = inputs[0].dtype
    for value in inputs:
        other = value.dtype
        if other is not first and (other.is_floating_point or other.is_complex):
            return None
    return first if first.is_floating_point else None


def values_in(arguments: Iterable[Any]) -> list[Value]:
    """The values among the arguments of an operation, and in lists among them."""
    values: list[Value] = []
    for argument in arguments:
        if isinstance(argument, Value):
            values.append(argument)
        elif isinstance(argument, (list, tuple)):
            values += values_in(argument)
    return values


def _metas(argument: Any) -> Any:
    """An argument with the meta tensor of every value in its place."""
    if isinstance(argument, Value):
        return argument.meta
    if isinstance(argument, (list, tuple)):
        return [_metas(part) for part in argument]
    return argument


def _live(record: Walk, node: fx.Node, planes: Planes, shape: Shape) -> Planes:
    """The planes that can be followed further: each dimension is that of one of them at most.

    A value of `shape` without entries has none.
    """
    if 0 in shape:
        return ()
    kept: list[Plane] = []
    taken: set[int] = set()
    for plane in planes:
        # A plane that is frozen throughout says nothing, and would freeze whatever it meets.
        if is_frozen(plane):
            continue
        dims = varying(plane)
        if not dims:
            record.freeze(plane, node, LONE)
        elif not taken.isdisjoint(dims):
            record.freeze(plane, node, "its channels are mixed with others along one dimension")
        else:
            kept.append(plane)
            taken.update(dims)
    return tuple(kept)
