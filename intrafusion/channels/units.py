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
from intrafusion.channels.walk import Rect, Tie, Walk

Integers = NDArray[np.int64]


FREE = -1
"""The cause of a unit that can go."""

JOINED = -2
"""The cause of a unit that stays only because it is tied to what is fixed."""


@dataclass(frozen=True)
class Units:
    """The solution of a walk.

    Attributes:
        ties: what tells the copies of a unit apart: the walk's ties and lines, and the columns of
            rectangles whose rows are groups of a layer. Those of a rectangle that only has to
            stay one are not among them.
        unit: for each atom the number of its unit.
        place: for each atom the number of its place: atoms that meet, position by position, are
            at one. A unit that stands k times in a dimension is at several.
        cause: for each unit which of the walk's freezes was the first to freeze it, or `FREE`,
            or `JOINED`.
    """

    ties: tuple[Tie, ...]
    unit: Integers
    place: Integers
    cause: Integers


def solve(walk: Walk) -> Units:
    """Join what is tied, square the rectangles, and find what is frozen."""
    ties = list(walk.ties)
    a, b = _ends(ties)
    unit = place = _components(walk.atoms, a, b)

    def join(more: list[Tie]) -> Integers:
        nonlocal a, b
        ends = _ends(more)
        a, b = np.concatenate([a, ends[0]]), np.concatenate([b, ends[1]])
        return _components(walk.atoms, a, b)

    if walk.lines:
        ties += walk.lines
        unit = join(walk.lines)
    pending = list(walk.rects)
    while pending:
        now, pending = _to_square(unit, pending)
        if now:
            ties += [_columns(rect) for rect in now if not rect.aligned]
            unit = join([_columns(rect) for rect in now])
    touching = (a == FROZEN) ^ (b == FROZEN)
    cause = np.full(int(unit.max()) + 1, FREE)
    cause[unit[np.concatenate([a[touching], b[touching]])]] = JOINED
    sizes = [freeze.atoms.numel() for freeze in walk.freezes]
    frozen = joined(freeze.atoms for freeze in walk.freezes)
    # Of several assignments to one unit the last is left: backwards, the first freeze.
    cause[unit[frozen[::-1]]] = np.repeat(np.arange(len(sizes)), sizes)[::-1]
    return Units(tuple(ties), unit, place, cause)


def _columns(rect: Rect) -> Tie:
    """Each entry of the first row with those below it."""
    return rect.grid[1:].reshape(-1), rect.grid[0].repeat(len(rect.grid) - 1)


def _ends(ties: list[Tie]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """What is on either side of all ties."""
    return joined(a for a, _ in ties), joined(b for _, b in ties)


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
