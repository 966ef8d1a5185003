"""First-order importance against Torch-Pruning's on the same gradients."""

from __future__ import annotations

import torch
import torch_pruning as tp
from torch import nn

from intrafusion.importance import gradients
from intrafusion.importance.context import criterion_named
from tests.intrafusion.importance.networks import context_of, torch_pruning_scores


def test_scores_are_those_of_torch_pruning(monkeypatch) -> None:
    monkeypatch.setattr(gradients, "BATCH", 5)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    images, labels = torch.randn(12, 3, 8, 8), torch.arange(12) % 5
    # A layer that is scaled up keeps w·∂L/∂w if what it reads is scaled down: sums are comparable.
    nn.functional.cross_entropy(network(images), labels).backward()
    theirs = torch_pruning_scores(network, tp.importance.GroupTaylorImportance(normalizer=None))
    products = [(layer.weight * layer.weight.grad).abs() for layer in (network[0], network[2])]
    made, read = products[0].flatten(1).sum(1), products[1].transpose(0, 1).flatten(1).sum(1)
    torch.testing.assert_close(theirs, (made + read) / 2)

    context = context_of(network, (1, 3, 8, 8), images, labels)
    (group,) = context.analysis.groups
    ours = criterion_named("taylor")(group, context)
    torch.testing.assert_close(ours, (made / made.mean() + read / read.mean()) / 2)
