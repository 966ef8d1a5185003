"""From ties to units: the channels that live and die together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from intrafusion.channels.planes import FROZEN
from intrafusion.channels.walk import Freeze, Rect, Walk

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """The solution of a walk.

    Attributes:
        unit: for each atom the number of its unit.
        why: for each frozen unit what froze it first.
    """

    unit: Integers
    why: dict[int, Freeze | None]


def solve(walk: Walk) -> Units:
    """Join what is tied, square the rectangles, and find what is frozen."""
    a = np.concatenate([t[0].numpy() for t in walk.ties] or [np.zeros(0, np.int32)])
    b = np.concatenate([t[1].numpy() for t in walk.ties] or [np.zeros(0, np.int32)])
    unit = _components(walk.atoms, a, b)
    pending = list(walk.rects)
    while pending:
        # The loosest tie that keeps a grid rectangular depends on what is tied already, so
        # only grids that nothing else has settled are tied, one round at a time.
        loose = [rect for rect in pending if not _is_square(unit, rect)]
        if not loose:
            break
        grid = loose[0].grid.numpy()
        a = np.concatenate([a, grid[1:].reshape(-1)])
        b = np.concatenate([b, np.broadcast_to(grid[:1], grid[1:].shape).reshape(-1)])
        unit = _components(walk.atoms, a, b)
        pending = loose[1:]
    touching = (a == FROZEN) ^ (b == FROZEN)
    why: dict[int, Freeze | None] = {}
    for freeze in walk.freezes:
        for number in np.unique(unit[freeze.atoms.numpy()]):
            why.setdefault(int(number), freeze)
    for number in np.unique(unit[np.concatenate([a[touching], b[touching]])]):
        why.setdefault(int(number), None)
    return Units(unit, why)


def _components(atoms: int, a: NDArray[np.int32], b: NDArray[np.int32]) -> Integers:
    # A tie with the frozen atom would join everything frozen into one unit and lose the reasons.
    real = (a != FROZEN) & (b != FROZEN)
    edges = coo_array((np.ones(int(real.sum()), np.int8), (a[real], b[real])), (atoms, atoms))
    return connected_components(edges, directed=False)[1].astype(np.int64)


def _is_square(unit: Integers, rect: Rect) -> bool:
    """Whether rows go whole, or all rows hold the same units, in the same places if it matters."""
    grid = unit[rect.grid.numpy()]
    rows_whole = bool((grid == grid[:, :1]).all())
    ordered = grid if rect.aligned else np.sort(grid, axis=1)
    return rows_whole or bool((ordered == ordered[:1]).all())
