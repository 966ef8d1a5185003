"""ℓ1 distances on a CPU, compiled when first needed.

torch has no operation that takes a difference, makes it absolute and sums in one pass: its `cdist`
does 1.3 · 10⁹ terms a second on a core, the three operations in blocks that stay in the cache
4 · 10⁹, this loop 25 · 10⁹. What it costs is half a second for the compiler.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

COLUMNS = 64
"""So many targets of a block, 256 KB in float32 of 1024 dimensions, stay in the cache while units
pass by."""


def add_absolute(pairs: Iterable[tuple[Tensor, Tensor]], total: Tensor) -> None:
    """Add Σ_d |x_jd − y_kd| for all j and k to `total` (n, m), in place.

    The threads share the units, so results do not depend on how many threads there are.

    Args:
        pairs: some dimensions after the other of all n units x and all m targets y.
        total: float64.
    """
    threads = torch.get_num_threads()
    sums = np.array_split(total.numpy(), threads)
    with ThreadPoolExecutor(threads) as pool:
        for x, y in pairs:
            units, targets = x.contiguous().numpy(), y.contiguous().numpy()
            list(pool.map(_add, np.array_split(units, threads), sums, repeat(targets)))


@njit(nogil=True, fastmath={"reassoc"})
def _add(
    units: NDArray[np.floating], sums: NDArray[np.float64], targets: NDArray[np.floating]
) -> None:
    """Add the distances of all pairs to `sums`, in place."""
    last_unit, last_target = len(units) - 1, len(targets) - 1
    for first in range(0, len(targets), COLUMNS):
        for j in range(0, len(units), 2):
            for k in range(first, min(first + COLUMNS, len(targets)), 2):
                # Two units by two targets, so that each weight fetched is used twice; of an odd
                # number the last is its own partner, and is added once.
                unit, unit_beside = units[j], units[min(j + 1, last_unit)]
                target, target_beside = targets[k], targets[min(k + 1, last_target)]
                one = other = across = beside = units.dtype.type(0)
                for d in range(len(target)):
                    one += abs(unit[d] - target[d])
                    other += abs(unit_beside[d] - target[d])
                    across += abs(unit[d] - target_beside[d])
                    beside += abs(unit_beside[d] - target_beside[d])
                sums[j, k] += one
                if j < last_unit:
                    sums[j + 1, k] += other
                if k < last_target:
                    sums[j, k + 1] += across
                if j < last_unit and k < last_target:
                    sums[j + 1, k + 1] += beside
