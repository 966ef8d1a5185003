"""ℓ1 distances on a CPU, compiled when first needed.

torch has no operation that takes a difference, makes it absolute and sums in one pass: its `cdist`
does 1.3 · 10⁹ terms a second on a core, the three operations in blocks that stay in the cache
4 · 10⁹, this loop 20 · 10⁹. What it costs is half a second for the compiler.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

COLUMNS, DIMENSIONS = 64, 1024
"""So many targets by dimensions, 256 KB in float32, stay in the cache while units pass by."""


def absolute(x: Tensor, y: Tensor) -> Tensor:
    """Σ_d |x_jd − y_kd| for all pairs: (n, d) and (m, d) to (n, m), in their dtype.

    The threads share the units, so results do not depend on how many threads there are.
    """
    total = x.new_zeros(len(x), len(y))
    units, targets, sums = (tensor.contiguous().numpy() for tensor in (x, y, total))
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        shares = (np.array_split(whole, threads) for whole in (units, sums))
        list(pool.map(_add, *shares, repeat(targets)))
    return total


@njit(nogil=True, fastmath={"reassoc"})
def _add(
    units: NDArray[np.floating], sums: NDArray[np.floating], targets: NDArray[np.floating]
) -> None:
    """Add the distances of all pairs to `sums`, in place."""
    # Two units at a time, so that each weight of a target is fetched once for both; of an odd
    # number the last is its own partner, and is summed once, since both sums begin alike.
    for start in range(0, targets.shape[1], DIMENSIONS):
        for first in range(0, len(targets), COLUMNS):
            for j in range(0, len(units), 2):
                other = min(j + 1, len(units) - 1)
                unit = units[j, start : start + DIMENSIONS]
                partner = units[other, start : start + DIMENSIONS]
                for k in range(first, min(first + COLUMNS, len(targets))):
                    target = targets[k, start : start + DIMENSIONS]
                    total, total_of_other = sums[j, k], sums[other, k]
                    for d in range(len(target)):
                        total += abs(unit[d] - target[d])
                        total_of_other += abs(partner[d] - target[d])
                    sums[j, k], sums[other, k] = total, total_of_other
