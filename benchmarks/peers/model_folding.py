"""Model Folding, restated as a baseline.

Wang et al., "Forget the Data and Fine-Tuning! Just Fold the Network to Compress", ICLR 2025:
k-means over the units of a group; a cluster's mean makes the new unit, and what read its members
reads the new unit with the sum of their weights. What averaging took from the activations' spread
is then left as it is (`naive`), estimated from the weights (`AR`, approximate repair), or measured
on samples (`R`, the repair of Jordan et al., 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from benchmarks.peers.groups import (
    Group,
    apply,
    columns_of,
    find_groups,
    fold_batch_norm,
    rows_of,
)

Repair = Literal["naive", "AR", "R"]


@dataclass(frozen=True)
class _Moments:
    """Mean and spread (channels,) that a folded convolution's output should have."""

    mean: Tensor
    spread: Tensor


def compress(
    network: nn.Module,
    sparsity: float,
    repair: Repair,
    images: Tensor | None = None,
    *,
    normalised: bool = False,
    seed: int = 0,
) -> nn.Module:
    """A copy of `network` with every group's units folded to the share 1 − `sparsity`.

    Args:
        network: its batch norms end up in the convolutions before them; without any only `naive`
            says what to do.
        sparsity: share of each group's units to remove.
        repair: what is done about the lost spread.
        images: (n, 1, 28, 28), for the repair `R` alone.
        normalised: whether each layer's share of a unit is scaled to length 1 before k-means, so
            that directions are clustered: better on some networks.
        seed: of the k-means.
    """
    folded = deepcopy(network).eval()
    norms = fold_batch_norm(folded)
    wanted = {
        layer: _Moments(norm.bias.detach(), norm.weight.detach().abs())
        for layer, norm in norms.items()
    }
    assert wanted or repair == "naive"
    for group in find_groups(folded):
        clusters = _clusters(group, int(group.units * (1 - sparsity)), normalised, seed)
        mean = clusters / clusters.sum(1, keepdim=True)
        for layer in group.producers:
            if layer not in wanted:
                continue
            moments = wanted[layer]
            wanted[layer] = _Moments(mean @ moments.mean, mean @ moments.spread)
        correlation = {layer: _correlation(layer, clusters) for layer in group.producers}
        apply(group, mean, clusters)
        if repair == "AR":
            for layer in group.producers:
                _rescale(layer, _lost(clusters.sum(1), correlation[layer]), wanted[layer].mean)
    if repair == "R":
        assert images is not None
        _repair(folded, wanted, images)
    return folded


@torch.no_grad()
def _clusters(group: Group, kept: int, normalised: bool, seed: int) -> Tensor:
    """(kept, units) of 0 and 1: which units are in which cluster."""
    parts = rows_of(group) + columns_of(group)
    if normalised:
        parts = [nn.functional.normalize(part, dim=1) for part in parts]
    units = torch.cat(parts, dim=1).numpy()
    labels = KMeans(kept, n_init=10, random_state=seed).fit(units).labels_
    return nn.functional.one_hot(torch.from_numpy(labels).long(), kept).T.float()


@torch.no_grad()
def _correlation(layer: nn.Module, clusters: Tensor) -> Tensor:
    """(kept,) mean cosine between the weights of two different units of a cluster; 1 if alone."""
    directions = nn.functional.normalize(layer.weight.flatten(1), dim=1)
    size = clusters.sum(1)
    # The squared length of a sum of unit vectors counts each pair twice, and each with itself.
    pairs = (clusters @ directions).square().sum(1) - size
    return torch.where(size > 1, pairs / (size * (size - 1)).clamp_min(1), 1.0)


def _lost(size: Tensor, correlation: Tensor) -> Tensor:
    """(kept,) by how much a mean of so many units is too narrow: their equation of Fold-AR."""
    return (size / (1 + (size - 1) * correlation).clamp_min(1e-3)).sqrt()


@torch.no_grad()
def _rescale(layer: nn.Module, scale: Tensor, mean: Tensor) -> None:
    """Widen a layer's output by `scale` (channels,) about its mean, in place."""
    layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias.copy_((layer.bias - mean) * scale + mean)


@torch.no_grad()
def _repair(network: nn.Module, wanted: Mapping[nn.Module, _Moments], images: Tensor) -> None:
    """Give each convolution the mean and spread it should have on `images`, in their order."""

    def correct(layer: nn.Module, _: object, output: Tensor) -> Tensor:
        moments = wanted[layer]
        spread, mean = torch.std_mean(output, (0, 2, 3), correction=0)
        scale = moments.spread / (spread + 1e-5)
        layer.weight.mul_(scale[:, None, None, None])
        layer.bias.copy_((layer.bias - mean) * scale + moments.mean)
        view = (1, -1, 1, 1)
        return (output - mean.view(view)) * scale.view(view) + moments.mean.view(view)

    hooks = [layer.register_forward_hook(correct) for layer in wanted]
    network(images)
    for hook in hooks:
        hook.remove()
