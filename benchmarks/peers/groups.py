"""A group of channels as the peers see it: found by Torch-Pruning, mapped on plain modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


SHAPE = (1, 28, 28)
"""Of a sample, unless said otherwise."""


def head_of(network: nn.Module) -> nn.Linear:
    """The last linear layer, which makes the class scores and keeps its outputs."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]


def find_groups(network: nn.Module, shape: Sequence[int] = SHAPE) -> list[Group]:
    """The groups of `network` as Torch-Pruning's DepGraph finds them: from the output back."""
    example = torch.zeros(1, *shape, device=head_of(network).weight.device)
    graph = tp.DependencyGraph().build_dependency(network, example)
    groups = []
    for members in graph.get_all_groups(ignored_layers=[head_of(network)]):
        producers, consumers = [], []
        for member in members:
            layer, side = member.dep.target.module, member.dep.handler
            if side in (tp.prune_conv_out_channels, tp.prune_linear_out_channels):
                producers.append(layer)
            elif side in (tp.prune_conv_in_channels, tp.prune_linear_in_channels):
                consumers.append(layer)
        groups.append(Group(tuple(dict.fromkeys(producers)), tuple(dict.fromkeys(consumers))))
    return groups


@torch.no_grad()
def fold_batch_norm(network: nn.Module, *, epsilon: bool = True) -> dict[nn.Module, nn.BatchNorm2d]:
    """Fold each batch norm into the convolution before it, in place.

    Args:
        network: whose norms become `nn.Identity`.
        epsilon: whether ε stays under the root.

    Returns:
        For each convolution the norm it took in.
    """
    folded: dict[nn.Module, nn.BatchNorm2d] = {}
    for parent in network.modules():
        before: nn.Module | None = None
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                scale = layer.weight / (layer.running_var + layer.eps * epsilon).sqrt()
                shift = 0 if before.bias is None else before.bias
                before.weight = nn.Parameter(before.weight * scale[:, None, None, None])
                before.bias = nn.Parameter((shift - layer.running_mean) * scale + layer.bias)
                setattr(parent, name, nn.Identity())
                folded[before] = layer
            before = layer
    return folded


def rows_of(group: Group) -> list[Tensor]:
    """What makes the units: (units, …) per producer."""
    return [layer.weight.flatten(1) for layer in group.producers]


def columns_of(group: Group) -> list[Tensor]:
    """What reads the units: (units, …) per consumer."""
    return [layer.weight.transpose(0, 1).flatten(1) for layer in group.consumers]


@torch.no_grad()
def apply(group: Group, producer: Tensor, consumer: Tensor) -> None:
    """Map the group's producers and biases, and its consumers, by two maps (kept, units)."""
    for layer in group.producers:
        layer.weight = nn.Parameter(torch.tensordot(producer, layer.weight, dims=1))
        if layer.bias is not None:
            layer.bias = nn.Parameter(producer @ layer.bias)
        _set_width(layer, out=len(producer))
    for layer in group.consumers:
        summed = torch.tensordot(consumer, layer.weight.transpose(0, 1), dims=1)
        layer.weight = nn.Parameter(summed.transpose(0, 1).contiguous())
        _set_width(layer, into=len(consumer))


def _set_width(layer: nn.Module, out: int | None = None, into: int | None = None) -> None:
    kind = "channels" if isinstance(layer, nn.Conv2d) else "features"
    if out is not None:
        setattr(layer, f"out_{kind}", out)
    if into is not None:
        setattr(layer, f"in_{kind}", into)
