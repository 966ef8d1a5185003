"""The result of channel analysis: groups of interchangeable units, and what is frozen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from intrafusion.channels.units import Units, solve
from intrafusion.channels.walk import Freeze, Walk, walk
from intrafusion.program import Program
from intrafusion.program.nodes import name_of


class Role(Enum):
    """What a parameter dimension does with the channels of a group."""

    PRODUCER = "producer"
    CARRIER = "carrier"
    CONSUMER = "consumer"


@dataclass(frozen=True)
class Binding:
    """One parameter or buffer dimension that a group runs through.

    Attributes:
        tensor: the parameter's or buffer's name.
        dim: the dimension.
        role: whether it makes, holds or reads the group's channels.
        index: (n, k) positions: unit i stands k times in the dimension, in ascending order.
    """

    tensor: str
    dim: int
    role: Role
    index: Tensor

    def __str__(self) -> str:
        return f"{self.tensor}[{self.dim}]"


@dataclass(frozen=True)
class Group:
    """n interchangeable units: the same bindings hold them all.

    Attributes:
        name: the group's first producer.
        bindings: where its channels are made, held and read, in the order of the graph.
        units: (n,) the units' numbers in the analysis.
        warnings: what the user should know before pruning it.
    """

    name: str
    bindings: tuple[Binding, ...]
    units: Tensor
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.units.numel()

    def of_role(self, role: Role) -> Iterator[Binding]:
        return (binding for binding in self.bindings if binding.role is role)


@dataclass(frozen=True)
class Frozen:
    """Channels of one parameter dimension that must stay, and the operation that said so."""

    tensor: str
    dim: int
    channels: int
    op: str
    reason: str


@dataclass(frozen=True)
class Analysis:
    """Groups in the order of the graph, frozen dimensions, and the walk they come from."""

    program: Program
    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    walk: Walk
    units: Units

    @cached_property
    def bindings(self) -> Mapping[tuple[str, int], tuple[tuple[Group, Binding], ...]]:
        """For every (tensor, dimension) the groups that run through it."""
        table: dict[tuple[str, int], list[tuple[Group, Binding]]] = defaultdict(list)
        for group in self.groups:
            for binding in group.bindings:
                table[binding.tensor, binding.dim].append((group, binding))
        return {key: tuple(pairs) for key, pairs in table.items()}

    @property
    def from_output(self) -> tuple[Group, ...]:
        """The groups from the output backwards, each in the place of its last producer."""

        def last_made(group: Group) -> int:
            producers = group.of_role(Role.PRODUCER)
            return max(self.walk.ranges[b.tensor, b.dim].start for b in producers)

        return tuple(sorted(self.groups, key=last_made, reverse=True))

    @property
    def coverage(self) -> float:
        """Share of the program's parameter elements that lie in at least one prunable group."""
        covered = 0
        for name in self.program.trainable:
            tensor = self.program.tensors[name]
            stays = torch.ones((), dtype=torch.bool)
            for dim, size in enumerate(tensor.shape):
                fixed = torch.ones(size, dtype=torch.bool)
                for group, binding in self.bindings.get((name, dim), ()):
                    if len(group) > 1:
                        fixed[binding.index.reshape(-1)] = False
                view = [-1 if d == dim else 1 for d in range(tensor.dim())]
                stays = stays & fixed.reshape(view)
            fixed_elements = int(stays.expand(tensor.shape).sum()) if tensor.dim() else 1
            covered += tensor.numel() - fixed_elements
        return covered / max(1, self.program.parameter_count)


def analyse(program: Program, *, whole_heads: bool = False) -> Analysis:
    """Find the groups of `program`: which channels can be removed, and which only together.

    An attention loses channels of every head, or with `whole_heads` heads.
    """
    record = walk(program, whole_heads=whole_heads)
    units = solve(record)
    groups = _groups(record, units)
    return Analysis(program, groups, _frozen(record, units), record, units)


def _groups(record: Walk, units: Units) -> tuple[Group, ...]:
    columns = list(record.ranges)
    ends = np.array([record.ranges[column].stop for column in columns], np.int64)
    atoms = np.arange(1, record.atoms)
    unit = units.unit[atoms]
    free = ~np.isin(unit, np.fromiter(units.why, np.int64, len(units.why)))
    atoms, unit = atoms[free], unit[free]
    column = np.searchsorted(ends, atoms, side="right")
    order = np.lexsort((atoms, unit))
    atoms, unit, column = atoms[order], unit[order], column[order]
    ends_of_unit = np.flatnonzero(np.diff(unit, append=-1)) + 1

    # Units whose atoms stand in the same columns, the same number of times, are one group.
    members: dict[bytes, list[int]] = defaultdict(list)
    layout, width = column.tobytes(), column.itemsize
    start = 0
    for stop in ends_of_unit.tolist():
        members[layout[start * width : stop * width]].append(start)
        start = stop

    produced = _mask(record.atoms, record.produced)
    consumed = _mask(record.atoms, record.consumed)
    groups = []
    for key, starts in members.items():
        shape = np.frombuffer(key, column.dtype)
        kind = np.array(starts)
        kind = kind[np.argsort(atoms[kind])]
        table = torch.from_numpy(atoms[kind[:, None] + np.arange(len(shape))])
        bindings = []
        for number in dict.fromkeys(shape.tolist()):
            index = table[:, torch.from_numpy(shape == number)]
            name, dim = columns[number]
            first = int(index[0, 0])
            role = (
                Role.CONSUMER
                if consumed[first]
                else Role.PRODUCER
                if produced[first]
                else Role.CARRIER
            )
            bindings.append(Binding(name, dim, role, index - record.ranges[name, dim].start))
        maker = next((b for b in bindings if b.role is Role.PRODUCER), None)
        if maker is None:
            continue
        warnings = tuple(
            dict.fromkeys(
                text for labels, text in record.warnings if bool(torch.isin(labels, table).any())
            )
        )
        numbers = torch.from_numpy(unit[kind])
        groups.append((int(table.min()), Group(maker.tensor, tuple(bindings), numbers, warnings)))
    groups.sort(key=lambda pair: pair[0])
    return _distinctly_named(group for _, group in groups)


def _distinctly_named(groups: Iterator[Group]) -> tuple[Group, ...]:
    named: list[Group] = []
    taken: dict[str, int] = {}
    for group in groups:
        taken[group.name] = taken.get(group.name, 0) + 1
        count = taken[group.name]
        name = group.name if count == 1 else f"{group.name}#{count}"
        named.append(Group(name, group.bindings, group.units, group.warnings))
    return tuple(named)


def _frozen(record: Walk, units: Units) -> tuple[Frozen, ...]:
    found: dict[tuple[str, int, str, str], int] = defaultdict(int)
    for (name, dim), atoms in record.ranges.items():
        numbers, counts = np.unique(units.unit[atoms.start : atoms.stop], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if number in units.why:
                freeze = units.why[number]
                if freeze is None:
                    found[name, dim, "", "it is joined with channels that are fixed"] += count
                elif not freeze.quiet:
                    found[name, dim, _operation(freeze), freeze.reason] += count
    return tuple(Frozen(name, dim, n, op, why) for (name, dim, op, why), n in found.items())


def _operation(freeze: Freeze) -> str:
    return freeze.node.op if freeze.node.op == "output" else name_of(freeze.node)


def _mask(size: int, labels: list[Tensor]) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    for part in labels:
        mask[part.long()] = True
    mask[0] = False
    return mask
