"""Which way each channel goes through the network, so that like is paired with like.

A unit that stands k times in a dimension has k atoms there, and so has every other unit of its
group. Which of them are the counterparts of each other shows in what they meet: the first half of
a gated layer is not the second, whatever the order they stand in.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array

from intrafusion.channels.planes import FROZEN
from intrafusion.channels.units import Integers, joined
from intrafusion.channels.walk import Walk

_ROUNDS = 8
"""How many ties away what an atom meets still tells it from others."""


def ways(walk: Walk, column: Integers) -> Integers:
    """For each atom a number: equal for atoms that go the same way.

    Those stand in the same `column` (atoms,), are in the same of the walk's parts, and met, in
    the same operations, atoms that go the same way: the classes of colour refinement (Weisfeiler
    and Leman 1968), with sums of random numbers for the multisets.
    """
    random = np.random.default_rng(0)
    colour = random.integers(2**62, size=1 + int(column.max(initial=0)))[column]
    for part in walk.parts:
        colour[np.unique(part.numpy())] += random.integers(2**62)
    a = joined(tie[0] for tie in walk.ties)
    b = joined(tie[1] for tie in walk.ties)
    sizes = [len(tie[0]) for tie in walk.ties]
    real = (a != FROZEN) & (b != FROZEN)
    # One number for each side of each tie.
    left, right = (np.repeat(random.integers(2**62, size=len(sizes)), sizes)[real] for _ in "ab")
    a, b = a[real], b[real]
    ends = (np.concatenate([a, b]), np.concatenate([b, a]))
    met = coo_array((np.concatenate([left, right]), ends), (walk.atoms, walk.atoms)).tocsr()
    for _ in range(_ROUNDS):
        colour = _scrambled(colour + met @ _scrambled(colour))
    _, first, way = np.unique(colour, return_index=True, return_inverse=True)
    # By their first atoms, so that the copies of a unit are in the same order in most columns.
    return first.argsort().argsort()[way]


def _scrambled(colour: Integers) -> Integers:
    """Each number turned into another, so that no sum of them is that of others."""
    mixed: Integers = (colour ^ (colour >> 29)) * np.int64(0x2545F4914F6CDD1D)
    return mixed ^ (mixed >> 32)
