"""Magnitude pruning as most people do it: Torch-Pruning, and batch norm estimated anew."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch_pruning as tp
from torch import Tensor, nn

from benchmarks.peers.groups import SHAPE, head_of
from examples.networks.attention import Attention

NORMS = nn.BatchNorm1d | nn.BatchNorm2d
CRITERIA = {
    "l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "lamp": lambda: tp.importance.LAMPImportance(p=2),
    "bn_scale": lambda: tp.importance.BNScaleImportance(),
    "fpgm": lambda: tp.importance.FPGMImportance(p=2),
}


class DoesNotRunError(Exception):
    """Channels were removed, and the rest is no network any more."""


def has_norms(network: nn.Module) -> bool:
    """Whether there are batch norms, which re-estimation and the criterion `bn_scale` need."""
    return any(isinstance(module, NORMS) for module in network.modules())


def criteria_for(network: nn.Module) -> list[str]:
    """Those of `CRITERIA` that prune this network."""
    return [name for name in CRITERIA if name != "bn_scale" or has_norms(network)]


def prune(
    network: nn.Module,
    sparsity: float,
    criterion: str,
    shape: Sequence[int] = SHAPE,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A copy of `network` with that share of every group's channels removed by Torch-Pruning.

    Everything but `sparsity` and `criterion` is left at Torch-Pruning's defaults; the layer
    that makes the class scores keeps its outputs, and attention is named with its heads, of which
    Torch-Pruning does not know by itself. `shape` and `dtype` are those of a sample.

    Raises:
        DoesNotRunError: what is made does not, as attention whose heads no longer are the share of
            the tokens' width that its code takes them for; or Torch-Pruning itself does not, as on
            recurrent layers.
    """
    pruned = deepcopy(network).eval()
    example = torch.zeros(1, *shape, dtype=dtype, device=head_of(pruned).weight.device)
    try:
        pruner = tp.pruner.BasePruner(
            pruned,
            example,
            importance=CRITERIA[criterion](),
            pruning_ratio=sparsity,
            ignored_layers=[head_of(pruned)],
            num_heads={
                layer.qkv: layer.heads for layer in pruned.modules() if isinstance(layer, Attention)
            },
        )
        pruner.step()
        with torch.no_grad():
            pruned.eval()(example)
    except (IndexError, RuntimeError) as error:
        raise DoesNotRunError(str(error)) from error
    return pruned


def reestimate_batch_norm(network: nn.Module, samples: Tensor) -> nn.Module:
    """A copy of `network` whose batch norms hold the statistics of `samples` (n, …).

    One forward pass over all of them: each layer's statistics are those under the layers
    before it as they are now.
    """
    estimated = deepcopy(network)
    for module in estimated.modules():
        if isinstance(module, NORMS):
            module.reset_running_stats()
            module.momentum = None
    estimated.train()
    with torch.no_grad():
        estimated(samples)
    return estimated.eval()
