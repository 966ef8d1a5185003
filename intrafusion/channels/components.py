"""Which things are connected, each with each, by pairs of them."""

from __future__ import annotations

import numpy as np

from intrafusion.channels.runs import Integers


def components(count: int, a: Integers, b: Integers) -> Integers:
    """For each of `count` things the number of its component, in the order of their first.

    `a` and `b` (pairs,) are what is connected. Every component hooks itself to the least of those
    that it is connected with, until none is left (Shiloach and Vishkin 1982). After two rounds each
    has hooked itself to another or been hooked to, so there are logarithmically many rounds; each
    costs some microseconds, where building a sparse matrix for scipy costs hundreds.
    """
    least = np.arange(count)
    while len(a):
        np.minimum.at(least, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(further := least[least], least):
            least = further
        a, b = least[a], least[b]
        apart = a != b
        a, b = a[apart], b[apart]
    number = np.cumsum(least == np.arange(count)) - 1
    return number[least]
