"""From ties to units: the channels that live and die together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from intrafusion.channels.components import components
from intrafusion.channels.planes import FROZEN, Flags, Plane
from intrafusion.channels.runs import Integers, Runs, Stretches, joined, runs, stretches
from intrafusion.channels.walk import Rect, Tie, Walk

Number = TypeVar("Number", bound=np.generic)

FREE = -1
"""The cause of a unit that can go."""

JOINED = -2
"""The cause of a unit that stays only because it is tied to what is fixed."""


@dataclass(frozen=True)
class Meetings:
    """What tells the copies of a unit apart: which runs met in which ties, in their order there.

    Attributes:
        tie: the number of the tie.
        a, b: the runs on its sides.
    """

    tie: Integers
    a: Integers
    b: Integers


@dataclass(frozen=True)
class Units:
    """The solution of a walk, in runs: for all atoms of one it is the same, each in its place.

    Attributes:
        runs: the runs.
        meetings: those of the walk's ties and lines, and of the columns of rectangles whose rows
            are groups of a layer. Those of a rectangle that only has to stay one are not among
            them.
        first: for each run the unit of its first atom; the next atom is of the next unit.
        place: for each run the number of its place: runs that meet, position by position, are at
            one. A unit that stands k times in a dimension is at several.
        cause: for each run which of the walk's freezes was the first to freeze its units, or
            `FREE`, or `JOINED`.
        parts: for each run a number that tells which of the walk's parts it is in; 0 for none.
        column: for each run which of the walk's `ranges` it lies in, from 0; -1 for the frozen one.
    """

    runs: Runs
    meetings: Meetings
    first: Integers
    place: Integers
    cause: Integers
    parts: Integers
    column: Integers

    @cached_property
    def unit(self) -> Integers:
        """For each atom the number of its unit."""
        return self.runs.spread(self.first)

    @property
    def count(self) -> int:
        """How many units there are."""
        return int((self.first + self.runs.length).max())


def solve(walk: Walk) -> Units:
    """Join what is tied, square the rectangles, and find what is frozen."""
    columns, parts = _columns_of_atoms(walk), _parts(walk)
    ties = _tied([*walk.ties, *walk.lines])
    told = ties.count
    solved = _solved(walk, columns, parts, ties)
    if squared := _squared(solved, walk.rects):
        counted = [_columns(rect.grid) for rect in squared if not rect.aligned]
        told += len(counted)
        aligned = [_columns(rect.grid) for rect in squared if rect.aligned]
        ties = ties.followed_by(_tied([*counted, *aligned]))
        solved = _solved(walk, columns, parts, ties)

    place = solved.component
    if ties.count > len(walk.ties):
        place = solved.joined_by(solved.tie < len(walk.ties))
    copies = solved.tie < told
    return Units(
        solved.runs,
        Meetings(solved.tie[copies], solved.a[copies], solved.b[copies]),
        solved.first,
        place,
        solved.cause,
        parts[solved.runs.first],
        columns[solved.runs.first],
    )


@dataclass(frozen=True)
class _Tied:
    """Ties, one after the other.

    Attributes:
        count: how many.
        met: their stretches.
        fixed: the atoms that they tie to the frozen one.
    """

    count: int
    met: Stretches
    fixed: Plane

    def followed_by(self, more: _Tied) -> _Tied:
        met = self.met.followed_by(self.count, more.met)
        return _Tied(self.count + more.count, met, np.concatenate([self.fixed, more.fixed]))


def _tied(ties: Sequence[Tie]) -> _Tied:
    a, b = (joined(tie[side] for tie in ties) for side in (0, 1))
    met = stretches([side.size for side, _ in ties], a, b)
    return _Tied(len(ties), met, (a | b)[(a == FROZEN) != (b == FROZEN)])


@dataclass(frozen=True)
class _Solved:
    """What joins the runs.

    Attributes:
        runs: the runs.
        tie, a, b: the runs `a` and `b` meet in the tie of that number.
        component: for each run the number of what it is joined with.
        cause, first: see `Units`.
    """

    runs: Runs
    tie: Integers
    a: Integers
    b: Integers
    component: Integers
    cause: Integers

    @cached_property
    def first(self) -> Integers:
        return _numbered(self.component, self.runs)

    def joined_by(self, some: Flags) -> Integers:
        """For each run the number of what it is joined with by `some` of the meetings."""
        return components(len(self.runs.first), self.a[some], self.b[some])


def _solved(walk: Walk, columns: Integers, parts: Integers, ties: _Tied) -> _Solved:
    """The solution where just `ties` are joined."""
    cause = _causes(walk, ties.fixed)
    all_runs = runs([columns, cause, parts], ties.met)
    tie, a, b = all_runs.within(ties.met)
    component = components(len(all_runs.first), a, b)
    return _Solved(all_runs, tie, a, b, component, _first_cause(component, cause[all_runs.first]))


def _columns_of_atoms(walk: Walk) -> Integers:
    """For each atom the number of its parameter dimension, from 0 on; -1 for the frozen atom."""
    sizes = [len(atoms) for atoms in walk.ranges.values()]
    return np.repeat(np.arange(-1, len(sizes)), [1, *sizes])


def _causes(walk: Walk, fixed: Plane) -> Integers:
    """For each atom the first freeze that names it, or `FREE`; or `JOINED` for those that are
    `fixed` by a tie to the frozen one, which joins nothing: all that is frozen would be one unit,
    and have no reasons of its own.
    """
    cause = np.full(walk.atoms, FREE)
    cause[fixed] = JOINED
    frozen = [freeze.atoms for freeze in walk.freezes]
    number = np.repeat(np.arange(len(frozen)), [atoms.size for atoms in frozen])
    # Of several assignments to one atom the last is left: backwards, the first freeze.
    cause[joined(frozen)[::-1]] = number[::-1]
    return cause


def _first_cause(component: Integers, cause: Integers) -> Integers:
    """For each run the cause that comes first in its component; `JOINED` comes after freezes."""
    found = np.full(1 + int(component.max()), FREE)
    found[component[cause == JOINED]] = JOINED
    frozen = np.flatnonzero(cause >= 0)
    frozen = frozen[np.argsort(cause[frozen])][::-1]
    found[component[frozen]] = cause[frozen]
    return found[component]


def _parts(walk: Walk) -> Integers:
    """For each atom a number that tells which of the walk's parts it is in; 0 for none.

    A sum of random numbers, one for each part.
    """
    parts = np.zeros(walk.atoms, np.int64)
    marks = np.random.default_rng(0).integers(1, 2**62, size=len(walk.parts))
    for part, mark in zip(walk.parts, marks, strict=True):
        parts[part] = parts[part] + mark  # once for an atom that stands there twice
    parts[FROZEN] = 0
    return parts


def _numbered(component: Integers, all_runs: Runs) -> Integers:
    """For each run the unit of its first atom: the units of a component are numbered on."""
    lengths = np.zeros(1 + int(component.max()), np.int64)
    lengths[component] = all_runs.length
    return (np.cumsum(lengths) - lengths)[component]


def _columns(grid: NDArray[Number]) -> tuple[NDArray[Number], NDArray[Number]]:
    """Each entry of the first row with those below it."""
    return grid[1:].reshape(-1), np.tile(grid[0], len(grid) - 1)


def _squared(solved: _Solved, rects: Sequence[Rect]) -> list[Rect]:
    """The rectangles whose columns have to be tied.

    The loosest tie that keeps a grid rectangular depends on what is tied already, so a grid
    that shares units with one before it has to wait until that is tied; one that is square, or
    of which nothing can go, needs no tie.
    """
    squared: list[Rect] = []
    all_runs, free = solved.runs, solved.cause == FREE
    pending = [
        (rect, all_runs.at(rect.grid, solved.first))
        for rect in rects
        if free[all_runs.number[rect.grid]].any()
    ]
    pending = [(rect, units) for rect, units in pending if not _is_square(units, rect)]
    if not pending:
        return squared
    # The units of these alone, numbered anew; the frozen atom is alone in the first.
    seen = np.zeros(all_runs.number.size, np.bool_)
    seen[FROZEN] = True
    for _, units in pending:
        seen[units] = True
    number = np.cumsum(seen) - 1
    pending = [(rect, number[units]) for rect, units in pending]
    while pending:
        now: list[tuple[Rect, Integers]] = []
        later: list[tuple[Rect, Integers]] = []
        claimed = np.zeros(1 + int(number[-1]), np.bool_)
        for rect, units in pending:
            (later if claimed[units].any() else now).append((rect, units))
            claimed[units] = True
        squared += [rect for rect, _ in now]
        if later:
            tied = [_columns(units) for _, units in now]
            a, b = (np.concatenate(side) for side in zip(*tied, strict=True))
            real = (a != FROZEN) & (b != FROZEN)
            merged = components(len(claimed), a[real], b[real])
            later = [(rect, merged[units]) for rect, units in later]
        pending = [(rect, units) for rect, units in later if not _is_square(units, rect)]
    return squared


def _is_square(units: Integers, rect: Rect) -> bool:
    """Whether rows go whole, or all rows hold the same units, in the same places if it matters."""
    rows_whole = bool((units == units[:, :1]).all())
    ordered = units if rect.aligned else np.sort(units, axis=1)
    return rows_whole or bool((ordered == ordered[:1]).all())
