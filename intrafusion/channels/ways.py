"""Which way each channel goes through the network, so that like is paired with like.

A unit that stands k times in a dimension has k atoms there, and so has every other unit of its
group. Which of them are the counterparts of each other shows in what they meet: the first half of
a gated layer is not the second, whatever the order they stand in.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csr_array

from intrafusion.channels.planes import FROZEN
from intrafusion.channels.units import FREE, Integers, Units, joined
from intrafusion.channels.walk import Walk

NOWHERE = -1
"""The number of an atom that is not asked about; the frozen one never is."""

_ROUNDS = 8
"""After how many ties it is asked whether what lies further away still tells atoms apart."""


def ways(walk: Walk, units: Units, column: Integers, repeated: Integers) -> Integers:
    """For each atom a number: equal for atoms that go the same way.

    Those stand in the same `column` (atoms,), are in the same of the walk's parts, and met, in
    the same operations and as the n-th, atoms that go the same way: the classes of colour
    refinement (Weisfeiler and Leman 1968), with sums of random numbers for the multisets.

    It is asked of the units that are `repeated`, as they stand several times in one column, and
    of those with atoms in the walk's parts; for all others the column says enough, and the number
    is 0.
    """
    asked = np.zeros(len(units.cause), np.bool_)
    asked[repeated] = True
    asked[units.unit[joined(walk.parts)]] = True
    asked &= units.cause == FREE
    asked[units.unit[FROZEN]] = False
    atoms = np.flatnonzero(asked[units.unit])
    number = np.full(len(units.unit), NOWHERE)
    number[atoms] = np.arange(len(atoms))

    random = np.random.default_rng(0)
    colour = random.integers(2**62, size=1 + int(column.max(initial=0)))[column[atoms]]
    for part in walk.parts:
        marked = np.unique(number[part.numpy()])
        colour[marked[marked != NOWHERE]] += random.integers(2**62)
    met = _met(units, number, random)
    kinds, found = 0, -1
    while kinds > found:
        found = kinds
        for _ in range(_ROUNDS):
            colour = _scrambled(colour + met @ _scrambled(colour))
        _, first, kind = np.unique(colour, return_index=True, return_inverse=True)
        kinds = len(first)
    way = np.zeros_like(number)
    # By their first atoms, so that the copies of a unit are in the same order in most columns.
    way[atoms] = 1 + first.argsort().argsort()[kind]
    return way


def _met(units: Units, number: Integers, random: np.random.Generator) -> csr_array:
    """What each atom met, by its `number`, and another number for the way in which it did so.

    Where one met several in one operation, as the rows of a grid meet a vector, it met each of
    them as the n-th: in this order they are those of one place after the other.
    """
    a, b = (number[joined(tie[side] for tie in units.ties)] for side in (0, 1))
    sizes = [len(a) for a, _ in units.ties]
    tie = np.repeat(np.arange(len(sizes)), sizes)
    asked = (a != NOWHERE) & (b != NOWHERE)
    a, b, tie = a[asked], b[asked], tie[asked]
    ranks = _rank(tie, a) + (_rank(tie, b) << 32)
    # One number for each side of each tie.
    sides = [_scrambled(random.integers(2**62, size=len(sizes))[tie] + ranks) for _ in "ab"]
    ends = (np.concatenate([a, b]), np.concatenate([b, a]))
    count = int(number.max()) + 1
    return coo_array((np.concatenate(sides), ends), (count, count)).tocsr()


def _rank(tie: Integers, atom: Integers) -> Integers:
    """The how many-th each entry is of those with the same atom in the same tie."""
    # Within a tie most atoms come in order, which a stable sort makes use of.
    meeting = tie * (1 + atom.max(initial=0)) + atom
    order = np.argsort(meeting, kind="stable")
    starts = np.diff(meeting[order], prepend=-1)
    counted = np.arange(len(order))
    rank = np.empty_like(counted)
    rank[order] = counted - np.maximum.accumulate(np.where(starts, counted, 0))
    return rank


def _scrambled(colour: Integers) -> Integers:
    """Each number turned into another, so that no sum of them is that of others."""
    mixed: Integers = (colour ^ (colour >> 29)) * np.int64(0x2545F4914F6CDD1D)
    return mixed ^ (mixed >> 32)
