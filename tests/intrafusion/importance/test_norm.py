"""Scores by the size of weights, by hand and against Torch-Pruning."""

from __future__ import annotations

import pytest
import torch
import torch_pruning as tp
from torch import nn

from intrafusion.importance.context import criterion_named
from tests.intrafusion.importance.networks import context_of, torch_pruning_scores, two_layers


@pytest.mark.parametrize(
    ("name", "expected"),
    # Units hold (1, −3 | 2) and (2, 2 | −6): producer before the bar, consumer behind it.
    [("l1", [0.75, 1.25]), ("l2", [10 / 18 + 4 / 40, 8 / 18 + 36 / 40]), ("linf", [0.85, 1.15])],
)
def test_scores_by_hand(name: str, expected: list[float]) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    network[0].weight.data = torch.tensor([[1.0, -3.0], [2.0, 2.0]])
    network[2].weight.data = torch.tensor([[2.0, -6.0]])
    context = context_of(network, (1, 2))
    (group,) = context.analysis.groups
    torch.testing.assert_close(criterion_named(name)(group, context), torch.tensor(expected))


@pytest.mark.parametrize(("name", "p"), [("l1", 1), ("l2", 2)])
def test_ranking_is_that_of_torch_pruning(name: str, p: int) -> None:
    # Torch-Pruning does not scale each layer to a mean of 1: layers of equal mean need no scaling.
    network = two_layers()
    first, second = network[0].weight.data, network[2].weight.data
    second *= (first.abs().pow(p).sum() / second.abs().pow(p).sum()) ** (1 / p)
    context = context_of(network, (1, 3, 8, 8))
    (group,) = context.analysis.groups
    ours = criterion_named(name)(group, context)
    theirs = torch_pruning_scores(network, tp.importance.GroupMagnitudeImportance(p=p))
    torch.testing.assert_close(ours, theirs)
