"""Which way each channel goes through the network, so that like is paired with like.

A unit that stands k times in a dimension has k atoms there, and so has every other unit of its
group. Which of them are the counterparts of each other shows in what they meet: the first half of
a gated layer is not the second, whatever the order they stand in.
"""

from __future__ import annotations

import numpy as np

from intrafusion.channels.runs import Integers
from intrafusion.channels.units import FREE, Meetings, Units

NOWHERE = -1
"""The number of a run that is not asked about."""

_ROUNDS = 2
"""After how many ties it is asked whether what lies further away still tells runs apart."""


def ways(units: Units, repeated: Integers) -> Integers:
    """For each run a number: equal for runs whose atoms go the same way.

    Those stand in the same column, are in the same of the walk's parts, and met, in
    the same operations and as the n-th, runs that go the same way: the classes of colour
    refinement (Weisfeiler and Leman 1968), with sums of random numbers for the multisets.

    It is asked of the units that are `repeated`, as they stand several times in one column, and
    of those with atoms in the walk's parts; for all others the column says enough, and the number
    is 0.
    """
    asked = np.zeros(units.count, np.bool_)
    asked[repeated] = True
    asked[units.first[units.parts != 0]] = True
    chosen = np.flatnonzero(asked[units.first] & (units.cause == FREE))
    number = np.full(len(units.first), NOWHERE)
    number[chosen] = np.arange(len(chosen))

    random = np.random.default_rng(0)
    colour = random.integers(2**62, size=1 + int(units.column.max()))[units.column[chosen]]
    colour += units.parts[chosen]
    run, other, how = _met(units.meetings, number, random)
    kinds, found = 0, -1
    while kinds > found:
        found = kinds
        for _ in range(_ROUNDS):
            # There are few rounds: to make a sparse matrix for them would take longer.
            np.add.at(colour, run, how * _scrambled(colour)[other])
            colour = _scrambled(colour)
        ascending = np.sort(colour, kind="stable")  # the quickest, as many are equal
        kinds = 1 + int(np.count_nonzero(np.diff(ascending)))
    _, first, kind = np.unique(colour, return_index=True, return_inverse=True)
    way = np.zeros_like(number)
    # By their first runs, so that the copies of a unit are in the same order in most columns.
    way[chosen] = 1 + first.argsort().argsort()[kind]
    return way


def _met(
    meetings: Meetings, number: Integers, random: np.random.Generator
) -> tuple[Integers, Integers, Integers]:
    """Runs and what they met, by their `number`, and another number for how they did so.

    Where one met several in one operation, as the rows of a grid meet a vector, it met each of
    them as the n-th: in this order they are those of one place after the other.
    """
    a, b, tie = number[meetings.a], number[meetings.b], meetings.tie
    asked = (a != NOWHERE) & (b != NOWHERE)
    a, b, tie = a[asked], b[asked], tie[asked]
    ranks = _rank(tie, a) + (_rank(tie, b) << 32)
    # One number for each side of each tie.
    ties = 1 + int(tie.max(initial=0))
    sides = [_scrambled(random.integers(2**62, size=ties)[tie] + ranks) for _ in "ab"]
    return np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate(sides)


def _rank(tie: Integers, run: Integers) -> Integers:
    """The how many-th each entry is of those with the same run in the same tie."""
    # Within a tie most runs come in order, which a stable sort makes use of.
    meeting = tie * (1 + run.max(initial=0)) + run
    order = np.argsort(meeting, kind="stable")
    starts = np.diff(meeting[order], prepend=-1)
    if starts.all():
        return np.zeros_like(run)
    counted = np.arange(len(order))
    rank = np.empty_like(counted)
    rank[order] = counted - np.maximum.accumulate(np.where(starts, counted, 0))
    return rank


def _scrambled(colour: Integers) -> Integers:
    """Each number turned into another, so that no sum of them is that of others."""
    mixed: Integers = (colour ^ (colour >> 29)) * np.int64(0x2545F4914F6CDD1D)
    return mixed ^ (mixed >> 32)
