"""From ties to units: the channels that live and die together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from intrafusion.channels.planes import FROZEN
from intrafusion.channels.walk import Rect, Walk

Integers = NDArray[np.int64]


FREE = -1
"""The cause of a unit that can go."""

JOINED = -2
"""The cause of a unit that stays only because it is tied to what is fixed."""


@dataclass(frozen=True)
class Units:
    """The solution of a walk.

    Attributes:
        unit: for each atom the number of its unit.
        place: for each atom the number of its place: atoms that meet, position by position, are
            at one. A unit that stands k times in a dimension is at several.
        cause: for each unit which of the walk's freezes was the first to freeze it, or `FREE`,
            or `JOINED`.
    """

    unit: Integers
    place: Integers
    cause: Integers


def solve(walk: Walk) -> Units:
    """Join what is tied, square the rectangles, and find what is frozen."""
    a = joined(tie[0] for tie in walk.ties)
    b = joined(tie[1] for tie in walk.ties)
    unit = place = _components(walk.atoms, a, b)
    if walk.lines:
        a = np.concatenate([a, joined(line[0] for line in walk.lines)])
        b = np.concatenate([b, joined(line[1] for line in walk.lines)])
        unit = _components(walk.atoms, a, b)
    pending = list(walk.rects)
    while pending:
        now, pending = _to_square(unit, pending)
        grids = [rect.grid.numpy() for rect in now]
        a = np.concatenate([a, *(grid[1:].reshape(-1) for grid in grids)])
        b = np.concatenate([b, *(np.tile(grid[0], len(grid) - 1) for grid in grids)])
        if now:
            unit = _components(walk.atoms, a, b)
    touching = (a == FROZEN) ^ (b == FROZEN)
    cause = np.full(int(unit.max()) + 1, FREE)
    cause[unit[np.concatenate([a[touching], b[touching]])]] = JOINED
    sizes = [freeze.atoms.numel() for freeze in walk.freezes]
    frozen = joined(freeze.atoms for freeze in walk.freezes)
    # Of several assignments to one unit the last is left: backwards, the first freeze.
    cause[unit[frozen[::-1]]] = np.repeat(np.arange(len(sizes)), sizes)[::-1]
    return Units(unit, place, cause)


def joined(labels: Iterable[Tensor]) -> NDArray[np.int32]:
    """All of `labels`, vectors of atoms, one after the other."""
    return torch.cat([torch.zeros(0, dtype=torch.int32), *labels]).numpy()


def _to_square(unit: Integers, rects: list[Rect]) -> tuple[list[Rect], list[Rect]]:
    """The rectangles to tie now, and those to look at again once these are tied.

    The loosest tie that keeps a grid rectangular depends on what is tied already, so a grid
    that shares units with one before it has to wait; one that is square is done.
    """
    now: list[Rect] = []
    later: list[Rect] = []
    claimed = np.zeros(int(unit.max()) + 1, np.bool_)
    for rect in rects:
        units = unit[rect.grid.numpy()]
        if _is_square(units, rect):
            continue
        (later if claimed[units].any() else now).append(rect)
        claimed[units] = True
    return now, later


def _components(atoms: int, a: NDArray[np.int32], b: NDArray[np.int32]) -> Integers:
    # A tie with the frozen atom would join everything frozen into one unit and lose the reasons.
    real = (a != FROZEN) & (b != FROZEN)
    edges = coo_array((np.ones(int(real.sum()), np.int8), (a[real], b[real])), (atoms, atoms))
    return connected_components(edges, directed=False)[1].astype(np.int64)


def _is_square(units: Integers, rect: Rect) -> bool:
    """Whether rows go whole, or all rows hold the same units, in the same places if it matters."""
    rows_whole = bool((units == units[:, :1]).all())
    ordered = units if rect.aligned else np.sort(units, axis=1)
    return rows_whole or bool((ordered == ordered[:1]).all())
