"""The result of channel analysis: groups of interchangeable units, and what is frozen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from intrafusion.channels.contractions import scalable_atoms
from intrafusion.channels.planes import Flags
from intrafusion.channels.runs import Integers, counted, in_order, joined
from intrafusion.channels.units import FREE, JOINED, Units, solve
from intrafusion.channels.walk import Freeze, Walk, walk
from intrafusion.channels.ways import ways
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
        index: (n, k) positions: unit i stands k times in the dimension, the n-th time of one unit
            like that of another.
        contracted: (n, k), true where the channel is summed over against another activation's
            (q·k) and nothing else sees it: √c as large, it counts c times.
    """

    tensor: str
    dim: int
    role: Role
    index: Tensor
    contracted: Tensor

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
    groups = _groups(program, record, units)
    return Analysis(program, groups, _frozen(program, record, units), record, units)


def _are_held(program: Program, record: Walk, units: Units) -> Flags:
    """Which runs are of parameters or buffers: a tensor that the graph makes holds nothing."""
    held = [name in program.tensors for name, _ in record.ranges]
    # The last stands for the frozen atom, whose column is -1.
    return np.array([*held, False])[units.column]


def _groups(program: Program, record: Walk, units: Units) -> tuple[Group, ...]:
    columns = list(record.ranges)
    start = np.array([atoms.start for atoms in record.ranges.values()], np.int64)
    free = np.flatnonzero((units.cause == FREE) & _are_held(program, record, units))
    # Unit by unit and, as atoms are numbered, column by column.
    free = free[np.argsort(units.first[free], kind="stable")]
    unit, column = units.first[free], units.column[free]
    sort = column
    repeated = unit[1:][(np.diff(unit) | np.diff(column)) == 0]
    if record.parts or len(repeated):
        way = ways(units, repeated)[free]
        # What goes the same way stands together, place by place in the same order everywhere.
        sort = column * (1 + way.max(initial=0)) + way
        order = in_order(units.place[free], sort, unit)
        free, unit, column, sort = free[order], unit[order], column[order], sort[order]
    starts = units.runs.first[free]
    length = units.runs.length[free]
    position = starts - start[column]
    role = _roles(record)[starts]
    scalable = scalable_atoms(program.graph, record)
    some = bool(scalable.any())

    found = []
    for first, step, width in _alike(unit, sort, starts, length):
        runs = slice(first[0], first[0] + width)
        own = column[runs]
        turns = [0, *((own[1:] != own[:-1]).nonzero()[0] + 1).tolist()]
        copies = [end - begin for begin, end in pairwise([*turns, len(own)])]
        index = position[first[:, None] + np.arange(width)] + step[:, None]
        bindings = tuple(
            [
                Binding(name, dim, _ROLES[code], places, scaled)
                for (name, dim), code, places, scaled in zip(
                    map(columns.__getitem__, own[turns].tolist()),
                    role[runs][turns].tolist(),
                    torch.from_numpy(index).split_with_sizes(copies, dim=1),
                    _contracted(scalable if some else None, start[own], index, copies),
                    strict=True,
                )
            ]
        )
        maker = next((b for b in bindings if b.role is Role.PRODUCER), None)
        if maker is not None:
            members = torch.from_numpy(unit[first] + step)
            found.append((int(starts[first[0]]), Group(maker.tensor, bindings, members)))
    found.sort(key=lambda pair: pair[0])
    groups = [group for _, group in found]
    return tuple(_distinctly_named(groups, _warnings(record, units, groups)))


def _contracted(
    scalable: Flags | None, starts: Integers, index: Integers, copies: list[int]
) -> Sequence[Tensor]:
    """Which atoms, at `index` (n, k) from `starts` (k,), are `scalable`, so many of k at a time;
    None: no atom is.
    """
    if scalable is not None:
        return torch.from_numpy(scalable[starts + index]).split_with_sizes(copies, dim=1)
    # As nearly everywhere: no need to make thousands of them.
    none = {k: torch.zeros(len(index), k, dtype=torch.bool) for k in set(copies)}
    return [none[k] for k in copies]


def _alike(
    unit: Integers, sort: Integers, starts: Integers, length: Integers
) -> Iterator[tuple[Integers, Integers, int]]:
    """Units whose runs are of the same sorts are one group: they stand in the same columns, the
    same number of times, and go the same ways.

    Yields for each group, unit by unit in the order in which their runs start, the position of the
    unit's first run in `unit`, and its place within that run; and how many runs each unit has,
    which come one after the other.
    """
    first = np.flatnonzero(np.diff(unit, prepend=-1))
    size, sorts = sort.itemsize, sort.tobytes()
    kinds: dict[bytes, int] = {}
    numbers = [
        kinds.setdefault(sorts[begin:end], len(kinds))
        for begin, end in pairwise([*(size * first).tolist(), len(sorts)])
    ]
    kind = np.array(numbers, np.int64)
    order = np.lexsort((starts[first], kind))
    run, step = counted(length[first[order]])
    order = order[run]
    ends = np.cumsum(np.bincount(kind[order], minlength=len(kinds))).tolist()
    for key, (begin, end) in zip(kinds, pairwise([0, *ends]), strict=True):
        yield first[order[begin:end]], step[begin:end], len(key) // size


_ROLES = (Role.CARRIER, Role.PRODUCER, Role.CONSUMER)


def _roles(record: Walk) -> NDArray[np.int8]:
    """For each atom its role's position in `_ROLES`."""
    role = np.zeros(record.atoms, np.int8)
    role[joined(record.produced)] = _ROLES.index(Role.PRODUCER)
    role[joined(record.consumed)] = _ROLES.index(Role.CONSUMER)
    return role


def _warnings(record: Walk, units: Units, groups: list[Group]) -> list[list[str]]:
    """What to say of each group."""
    texts: list[list[str]] = [[] for _ in groups]
    if not record.warnings:
        return texts
    owner = np.full(units.count, -1)
    for number, group in enumerate(groups):
        owner[group.units.numpy()] = number
    for labels, text in record.warnings:
        for number in np.unique(owner[units.unit[labels]]).tolist():
            if number >= 0 and text not in texts[number]:
                texts[number].append(text)
    return texts


def _distinctly_named(groups: list[Group], warnings: list[list[str]]) -> Iterator[Group]:
    taken: Counter[str] = Counter()
    for group, texts in zip(groups, warnings, strict=True):
        taken[group.name] += 1
        count = taken[group.name]
        name = group.name if count == 1 else f"{group.name}#{count}"
        yield Group(name, group.bindings, group.units, tuple(texts))


def _frozen(program: Program, record: Walk, units: Units) -> tuple[Frozen, ...]:
    columns = list(record.ranges)
    fixed = (units.cause != FREE) & _are_held(program, record, units)
    cause, column = units.cause[fixed], units.column[fixed]
    # One number for a column and a cause; the least cause is `JOINED`.
    causes = len(record.freezes) - JOINED
    pairs, kind = np.unique(column * causes + cause - JOINED, return_inverse=True)
    counts = np.bincount(kind, units.runs.length[fixed], len(pairs)).astype(np.int64)
    found: dict[tuple[str, int, str, str], int] = defaultdict(int)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        number, why = pair // causes, pair % causes + JOINED
        name, dim = columns[number]
        if why == JOINED:
            found[name, dim, "", "it is joined with channels that are fixed"] += count
        elif not (freeze := record.freezes[why]).quiet:
            found[name, dim, _operation(freeze), freeze.reason] += count
    return tuple(Frozen(name, dim, n, op, why) for (name, dim, op, why), n in found.items())


def _operation(freeze: Freeze) -> str:
    return freeze.node.op if freeze.node.op == "output" else name_of(freeze.node)
