"""Runs: stretches of consecutive atoms that all go through the network side by side.

The channels of a layer are consecutive atoms, and most of what they meet meets them one after the
other. What is true of the first of them is then true of all, in its own place: a network of a
hundred thousand atoms has some hundred runs, and these are what is joined, sorted and compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intrafusion.channels.planes import FROZEN, Plane

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Stretches:
    """Where both sides of ties count upwards by one, neither at `FROZEN`.

    Attributes:
        tie: for each stretch the number of its tie.
        a, b: the first atoms of each.
        length: of each.
    """

    tie: Integers
    a: Integers
    b: Integers
    length: Integers

    def followed_by(self, ties: int, more: Stretches) -> Stretches:
        """Those of so many ties, and then those of `more`."""
        return Stretches(
            np.concatenate([self.tie, more.tie + ties]),
            np.concatenate([self.a, more.a]),
            np.concatenate([self.b, more.b]),
            np.concatenate([self.length, more.length]),
        )


def stretches(sizes: Sequence[int], a: Plane, b: Plane) -> Stretches:
    """The stretches of ties of such `sizes`, that stand one after the other in `a` and `b`."""
    ends = np.cumsum(sizes, dtype=np.int64)
    turn = np.zeros(len(a) + 1, np.bool_)
    turn[ends] = turn[0] = True
    turn = turn[:-1]
    real = (a != FROZEN) & (b != FROZEN)
    for side in (a, b):
        turn[1:] |= side[1:] - side[:-1] != 1
    turn[1:] |= ~real[:-1]
    start = np.flatnonzero(turn)
    length = np.diff(start, append=len(turn))
    start, length = start[real[start]], length[real[start]]
    first, met = (side[start].astype(np.int64) for side in (a, b))
    return Stretches(np.searchsorted(ends, start, side="right"), first, met, length)


def joined(labels: Iterable[Plane]) -> Plane:
    """All of `labels`, vectors of atoms, one after the other."""
    return np.concatenate([np.zeros(0, np.int32), *labels])


@dataclass(frozen=True)
class Runs:
    """All atoms as runs.

    Attributes:
        first: the first atom of each, ascending.
        length: how many atoms each has.
        number: for each atom, and the end of the last run, the number of the run there.
    """

    first: Integers
    length: Integers
    number: Integers

    def within(self, ties: Stretches) -> tuple[Integers, Integers, Integers]:
        """The runs that meet in `ties`: the number of the tie, and the run on either side."""
        counts = self.number[ties.a + ties.length] - self.number[ties.a]
        stretch, place = counted(counts)
        a, b = (self.number[side][stretch] + place for side in (ties.a, ties.b))
        return ties.tie[stretch], a, b

    def spread(self, numbers: Integers) -> Integers:
        """For each atom a number, which counts upwards within a run from that of the run."""
        return np.repeat(numbers - self.first, self.length) + np.arange(self.length.sum())

    def at(self, atoms: Plane, numbers: Integers) -> Integers:
        """The same for some atoms alone."""
        run = self.number[atoms]
        return numbers[run] + (atoms - self.first[run])


def runs(properties: Iterable[NDArray[Any]], ties: Stretches) -> Runs:
    """The longest runs whose atoms have the same of all `properties` (atoms,), and that end where
    any ends that they are tied to: a cut in one is one in all that it meets.
    """
    first, *others = properties
    known = np.ones(len(first) + 1, np.bool_)
    known[1:-1] = first[1:] != first[:-1]
    for values in others:
        known[1:-1] |= values[1:] != values[:-1]
    for start in (ties.a, ties.b):
        known[start] = known[start + ties.length] = True
    known[_overlaps(ties)] = True
    fresh, earlier = known, np.zeros(len(known), np.int32)
    while fresh.any():
        met = np.zeros_like(known)
        cuts = np.flatnonzero(fresh)
        np.cumsum(fresh[:-1], out=earlier[1:])
        for source, target in ((ties.a, ties.b), (ties.b, ties.a)):
            begin, end = earlier[source + 1], earlier[source + ties.length]
            stretch, place = counted(end - begin)
            met[cuts[begin[stretch] + place] + (target - source)[stretch]] = True
        fresh = met & ~known
        known = known | fresh
    bounds = np.flatnonzero(known)
    length = np.diff(bounds)
    return Runs(bounds[:-1], length, np.cumsum(known) - 1)


def _overlaps(ties: Stretches) -> Integers:
    """All atoms of what is tied to itself some atoms further on: no two go side by side."""
    shift = np.abs(ties.a - ties.b)
    some = (shift > 0) & (shift < ties.length)
    stretch, place = counted((shift + ties.length)[some])
    atoms: Integers = np.minimum(ties.a, ties.b)[some][stretch] + place
    return atoms


def counted(counts: Integers) -> tuple[Integers, Integers]:
    """For things of which each stands so many times: which one it is, and the how many-th."""
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) - (np.cumsum(counts) - counts)[which]


def in_order(place: Integers, sort: Integers, unit: Integers) -> Integers:
    """How to order things by unit, then sort, then place, none of them negative: as `lexsort`.

    It is quickest where they are nearly so.
    """
    kind = unit * (1 + sort.max(initial=0)) + sort
    order: Integers = np.argsort(kind, kind="stable")
    kind, place = kind[order], place[order]
    # Places are numbered as their first atoms are: nearly always they are in order by now.
    if ((kind[1:] == kind[:-1]) & (place[1:] < place[:-1])).any():
        order = order[np.lexsort((place, kind))]
    return order
