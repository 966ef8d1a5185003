from __future__ import annotations

import torch
import torch_pruning as tp

from intrafusion.importance.context import criterion_named
from tests.intrafusion.importance.networks import context_of, torch_pruning_scores, two_layers


def test_scores_are_those_of_torch_pruning() -> None:
    # Layers of equal mean need no scaling to a mean of 1, which Torch-Pruning does not do.
    network = two_layers()
    first, second = network[0].weight.data, network[2].weight.data
    second *= (first.square().sum() / second.square().sum()).sqrt()
    context = context_of(network, (1, 3, 8, 8))
    (group,) = context.analysis.groups
    ours = criterion_named("lamp")(group, context)
    torch.testing.assert_close(ours, torch_pruning_scores(network, tp.importance.LAMPImportance()))
    assert ours.max() == 1, "the largest unit is all that is left"
