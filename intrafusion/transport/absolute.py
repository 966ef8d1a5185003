"""ℓ1 distances on a CPU, compiled when first needed.

torch has no operation that takes a difference, makes it absolute and sums in one pass: its `cdist`
does 1.3 · 10⁹ terms a second on a core, the three operations in blocks that stay in the cache
4 · 10⁹, this loop 18 · 10⁹. What it costs is half a second for the compiler.
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
    for start in range(0, targets.shape[1], DIMENSIONS):
        for first in range(0, len(targets), COLUMNS):
            for j in range(len(units)):
                unit = units[j, start : start + DIMENSIONS]
                for k in range(first, min(first + COLUMNS, len(targets))):
                    target, total = targets[k, start : start + DIMENSIONS], sums[j, k]
                    for d in range(len(unit)):
                        total += abs(unit[d] - target[d])
                    sums[j, k] = total
