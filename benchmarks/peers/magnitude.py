"""Magnitude pruning as most people do it: Torch-Pruning, and batch norm estimated anew."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch_pruning as tp
from torch import Tensor, nn

from benchmarks.peers.groups import SHAPE, head_of

CRITERIA = {
    "l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "lamp": lambda: tp.importance.LAMPImportance(p=2),
    "bn_scale": lambda: tp.importance.BNScaleImportance(),
    "fpgm": lambda: tp.importance.FPGMImportance(p=2),
}


def prune(
    network: nn.Module, sparsity: float, criterion: str, shape: Sequence[int] = SHAPE
) -> nn.Module:
    """A copy of `network` with that share of every group's channels removed by Torch-Pruning.

    Everything but `sparsity` and `criterion` is left at Torch-Pruning's defaults; the layer
    that makes the class scores keeps its outputs. `shape` is that of a sample.
    """
    pruned = deepcopy(network).eval()
    pruner = tp.pruner.BasePruner(
        pruned,
        torch.zeros(1, *shape),
        importance=CRITERIA[criterion](),
        pruning_ratio=sparsity,
        ignored_layers=[head_of(pruned)],
    )
    pruner.step()
    return pruned.eval()


def reestimate_batch_norm(network: nn.Module, samples: Tensor) -> nn.Module:
    """A copy of `network` whose batch norms hold the statistics of `samples` (n, …).

    One forward pass over all of them: each layer's statistics are those under the layers
    before it as they are now.
    """
    estimated = deepcopy(network)
    for module in estimated.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    estimated.train()
    with torch.no_grad():
        estimated(samples)
    return estimated.eval()
