from __future__ import annotations

import torch
import torch_pruning as tp
from torch import nn

from intrafusion.importance.context import criterion_named
from tests.intrafusion.importance.networks import context_of, torch_pruning_scores, two_layers


def test_ranking_is_that_of_torch_pruning() -> None:
    # Torch-Pruning compares |w|, He et al. w: the same where all weights are positive. And it
    # does not scale layers to a mean of 1: with equal distances in both no scaling is needed.
    network = two_layers()
    for layer in (network[0], network[2]):
        rows = layer.weight.data.abs_()
        rows = rows.flatten(1) if layer is network[0] else rows.transpose(0, 1).flatten(1)
        layer.weight.data /= torch.cdist(rows, rows).sum()
    context = context_of(network, (1, 3, 8, 8))
    (group,) = context.analysis.groups
    ours = criterion_named("fpgm")(group, context)
    theirs = torch_pruning_scores(network, tp.importance.FPGMImportance(p=1))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert ours.argsort().tolist() == theirs.argsort().tolist()


def test_the_unit_in_the_middle_counts_least() -> None:
    network = nn.Sequential(nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, 1))
    network[0].weight.data = torch.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]])
    network[2].weight.data.fill_(1)
    context = context_of(network, (1, 1))
    (group,) = context.analysis.groups
    assert criterion_named("fpgm")(group, context).argmin() == 2
