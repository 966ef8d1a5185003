"""A plain network on which the definitions of Torch-Pruning and ours coincide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from intrafusion import load
from intrafusion.channels import analyse
from intrafusion.folding import fold_batch_norm
from intrafusion.importance.context import Context


def two_layers(units: int = 12) -> nn.Sequential:
    """Two convolutions with a ReLU between: one group of `units`."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, units, 3, padding=1), nn.ReLU(), nn.Conv2d(units, 5, 3, padding=1)
    )
    return network.eval()


def context_of(
    network: nn.Module,
    shape: Sequence[int],
    samples: Tensor | None = None,
    labels: Tensor | None = None,
) -> Context:
    folded = fold_batch_norm(load(network.eval(), input_shapes=[shape]))
    inputs = None if samples is None else (samples,)
    return Context(analyse(folded.program), folded.moments, samples=inputs, labels=labels)


def torch_pruning_scores(network: nn.Sequential, criterion: Callable[[Any], Tensor]) -> Tensor:
    """What Torch-Pruning's `criterion` gives the units that the first convolution makes."""
    graph = tp.DependencyGraph().build_dependency(network, torch.zeros(1, 3, 8, 8))
    group = graph.get_pruning_group(
        network[0], tp.prune_conv_out_channels, list(range(network[0].out_channels))
    )
    return criterion(group)
