"""From ties to units: the channels that live and die together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intrafusion.channels.components import components
from intrafusion.channels.planes import FROZEN, Flags, Plane
from intrafusion.channels.runs import Integers, Runs, joined, runs, stretches
from intrafusion.channels.walk import Rect, Tie, Walk

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
    ties = [*walk.ties, *walk.lines]
    told = len(ties)
    solved = _solved(walk, columns, parts, ties)
    if squared := _squared(solved, walk.rects):
        ties += [_columns(rect) for rect in squared if not rect.aligned]
        told = len(ties)
        ties += [_columns(rect) for rect in squared if rect.aligned]
        solved = _solved(walk, columns, parts, ties)

    place = solved.component
    if len(ties) > len(walk.ties):
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


def _solved(walk: Walk, columns: Integers, parts: Integers, ties: list[Tie]) -> _Solved:
    """The solution where just `ties` are joined."""
    left, right = (joined(tie[side] for tie in ties) for side in (0, 1))
    met = stretches([side.size for side, _ in ties], left, right)
    cause = _causes(walk, left, right)
    all_runs = runs([columns, cause, parts], met)
    tie, a, b = all_runs.within(met)
    component = components(len(all_runs.first), a, b)
    return _Solved(all_runs, tie, a, b, component, _first_cause(component, cause[all_runs.first]))


def _columns_of_atoms(walk: Walk) -> Integers:
    """For each atom the number of its parameter dimension, from 0 on; -1 for the frozen atom."""
    sizes = [len(atoms) for atoms in walk.ranges.values()]
    return np.repeat(np.arange(-1, len(sizes)), [1, *sizes])


def _causes(walk: Walk, a: Plane, b: Plane) -> Integers:
    """For each atom the first freeze that names it, or `FREE`; or `JOINED` where the sides `a`
    and `b` of all ties tie it to the frozen one, which joins nothing: all that is frozen would be
    one unit, and have no reasons of its own.
    """
    cause = np.full(walk.atoms, FREE)
    cause[(a | b)[(a == FROZEN) != (b == FROZEN)]] = JOINED
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


def _columns(rect: Rect) -> Tie:
    """Each entry of the first row with those below it."""
    return rect.grid[1:].reshape(-1), np.tile(rect.grid[0], len(rect.grid) - 1)


def _squared(solved: _Solved, rects: Sequence[Rect]) -> list[Rect]:
    """The rectangles whose columns have to be tied.

    The loosest tie that keeps a grid rectangular depends on what is tied already, so a grid
    that shares units with one before it has to wait until that is tied; one that is square, or
    of which nothing can go, needs no tie.
    """
    squared: list[Rect] = []
    if not rects:
        return squared
    unit, pending = solved.runs.spread(solved.first), list(rects)
    free = solved.runs.each(solved.cause == FREE)
    while pending:
        now: list[Rect] = []
        later: list[Rect] = []
        claimed = np.zeros(1 + int(unit.max()), np.bool_)
        for rect in pending:
            units = unit[rect.grid]
            if not free[rect.grid].any() or _is_square(units, rect):
                continue
            (later if claimed[units].any() else now).append(rect)
            claimed[units] = True
        if now and later:
            a, b = (joined(side) for side in zip(*map(_columns, now), strict=True))
            real = (a != FROZEN) & (b != FROZEN)
            unit = components(len(claimed), unit[a[real]], unit[b[real]])[unit]
        squared += now
        pending = later
    return squared


def _is_square(units: Integers, rect: Rect) -> bool:
    """Whether rows go whole, or all rows hold the same units, in the same places if it matters."""
    rows_whole = bool((units == units[:, :1]).all())
    ordered = units if rect.aligned else np.sort(units, axis=1)
    return rows_whole or bool((ordered == ordered[:1]).all())
