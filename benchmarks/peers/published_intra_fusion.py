"""Intra-Fusion as its authors published it, restated as a baseline.

Theus et al., "Towards Meta-Pruning via Optimal Transport", ICLR 2024, with the rules of the
code published beside it: batch norm is folded without its ε; a unit is its producers' and
consumers' weights, without biases; groups are taken from the output backwards, each as the
ones before it left the weights; and one map, n·T with T the exact plan between uniform
masses, sums producers, biases and consumers alike.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import ot
import torch
import torch_pruning as tp
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """The layers whose output channels, and whose input channels, are the group's units."""

    producers: tuple[nn.Module, ...]
    consumers: tuple[nn.Module, ...]

    @property
    def units(self) -> int:
        return len(self.producers[0].weight)


def compress(network: nn.Module, sparsity: float) -> nn.Module:
    """A copy of `network` with every group's units fused to the share 1 − `sparsity`."""
    fused = deepcopy(network).eval()
    fold_batch_norm(fused)
    groups = find_groups(fused)
    with torch.no_grad():
        for group in groups:
            kept = int(group.units * (1 - sparsity))
            apply(group, fusion_map(group, kept))
    return fused


@torch.no_grad()
def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place, leaving ε out."""
    for parent in network.modules():
        before: nn.Module | None = None
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                scale = layer.weight / layer.running_var.sqrt()
                shift = 0 if before.bias is None else before.bias
                before.weight = nn.Parameter(before.weight * scale[:, None, None, None])
                before.bias = nn.Parameter((shift - layer.running_mean) * scale + layer.bias)
                setattr(parent, name, nn.Identity())
            before = layer


def find_groups(network: nn.Module) -> list[Group]:
    """The groups of `network` as Torch-Pruning's DepGraph finds them: from the output back."""
    graph = tp.DependencyGraph().build_dependency(network, torch.zeros(1, 1, 28, 28))
    groups = []
    for members in graph.get_all_groups(ignored_layers=[network.classifier]):
        producers, consumers = [], []
        for member in members:
            layer, side = member.dep.target.module, member.dep.handler
            if side in (tp.prune_conv_out_channels, tp.prune_linear_out_channels):
                producers.append(layer)
            elif side in (tp.prune_conv_in_channels, tp.prune_linear_in_channels):
                consumers.append(layer)
        groups.append(Group(tuple(dict.fromkeys(producers)), tuple(dict.fromkeys(consumers))))
    return groups


def fusion_map(group: Group, kept: int) -> Tensor:
    """The map (kept, units) that sums units into the `kept` ones of largest ℓ1 norm."""
    rows = [layer.weight.flatten(1) for layer in group.producers]
    columns = [layer.weight.transpose(0, 1).flatten(1) for layer in group.consumers]
    importance = torch.stack([part.abs().sum(1) for part in rows + columns]).mean(0)
    survivors = importance.argsort(descending=True)[:kept].sort().values
    units = torch.cat(rows + columns, dim=1)
    units = units / units.norm(dim=1, keepdim=True)
    cost = torch.cdist(units, units[survivors], p=1).double().numpy()
    source = np.full(group.units, 1 / group.units)
    target = np.full(kept, 1 / kept)
    plan = torch.from_numpy(ot.emd(source, target, cost)).float().T
    return plan / plan.sum(0)


def apply(group: Group, fusion: Tensor) -> None:
    """Sum the group's producers, biases and consumers by `fusion` (kept, units), in place."""
    for layer in group.producers:
        layer.weight = nn.Parameter(torch.tensordot(fusion, layer.weight, dims=1))
        if layer.bias is not None:
            layer.bias = nn.Parameter(fusion @ layer.bias)
        _set_width(layer, out=len(fusion))
    for layer in group.consumers:
        summed = torch.tensordot(fusion, layer.weight.transpose(0, 1), dims=1)
        layer.weight = nn.Parameter(summed.transpose(0, 1).contiguous())
        _set_width(layer, into=len(fusion))


def _set_width(layer: nn.Module, out: int | None = None, into: int | None = None) -> None:
    kind = "channels" if isinstance(layer, nn.Conv2d) else "features"
    if out is not None:
        setattr(layer, f"out_{kind}", out)
    if into is not None:
        setattr(layer, f"in_{kind}", into)
