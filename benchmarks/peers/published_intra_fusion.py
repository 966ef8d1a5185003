"""Intra-Fusion as its authors published it, restated as a baseline.

Theus et al., "Towards Meta-Pruning via Optimal Transport", ICLR 2024, with the rules of the
code published beside it: batch norm is folded without its ε; a unit is its producers' and
consumers' weights, without biases; groups are taken from the output backwards, each as the
ones before it left the weights; and one map, n·T with T the exact plan between uniform
masses, sums producers, biases and consumers alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import ot
import torch
from torch import Tensor, nn

from benchmarks.peers.groups import (
    SHAPE,
    Group,
    apply,
    columns_of,
    find_groups,
    fold_batch_norm,
    rows_of,
)


def compress(network: nn.Module, sparsity: float, shape: Sequence[int] = SHAPE) -> nn.Module:
    """A copy of `network` with every group's units fused to the share 1 − `sparsity`.

    `shape` is that of a sample.
    """
    fused = deepcopy(network).eval()
    fold_batch_norm(fused, epsilon=False)
    for group in find_groups(fused, shape):
        mapping = fusion_map(group, int(group.units * (1 - sparsity)))
        apply(group, mapping, mapping)
    return fused


@torch.no_grad()
def fusion_map(group: Group, kept: int) -> Tensor:
    """The map (kept, units) that sums units into the `kept` ones of largest ℓ1 norm."""
    parts = rows_of(group) + columns_of(group)
    importance = torch.stack([part.abs().sum(1) for part in parts]).mean(0)
    survivors = importance.argsort(descending=True)[:kept].sort().values
    units = torch.cat(parts, dim=1)
    units = units / units.norm(dim=1, keepdim=True)
    cost = torch.cdist(units, units[survivors], p=1).double().cpu().numpy()
    source = np.full(group.units, 1 / group.units)
    target = np.full(kept, 1 / kept)
    plan = torch.from_numpy(ot.emd(source, target, cost)).to(units).T
    return plan / plan.sum(0)
