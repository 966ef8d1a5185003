"""Finding with few tries where a property of a network's size begins or ends to hold."""

from __future__ import annotations

import math
from collections.abc import Callable

RESOLUTION = 1.05
"""The search is over when the sizes on both sides of the border are that near."""


def boundary(
    holds: Callable[[float], bool],
    least: float,
    most: float,
    *,
    above: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> float | None:
    """The share nearest to the border at which `holds` said yes; None if it never did.

    The range is halved in ratio: between 1 % and 100 % of a network lie as many decisions as
    between 10 % and 1000 %.

    Args:
        holds: tries one share.
        least: the smallest share that can be, > 0; it is not tried.
        most: the largest; it is not tried either.
        above: whether what is asked for holds above the border (accuracy), else below (latency).
        progress: called after each try with their number and their total.
    """
    found = None
    low, high, total = least, most, tries(least, most)
    for number in range(1, total + 1):
        middle = math.sqrt(low * high)
        held = holds(middle)
        if held:
            found = middle
        if held == above:
            high = middle
        else:
            low = middle
        progress(number, total)
    return found


def tries(least: float, most: float) -> int:
    """How often `boundary` calls `holds`."""
    wide = math.log(most / least) / math.log(RESOLUTION)
    return max(0, math.ceil(math.log2(wide))) if wide > 0 else 0
