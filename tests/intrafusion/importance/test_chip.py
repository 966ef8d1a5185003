"""Channel independence against its definition, and on units that add nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intrafusion.importance.chip import independence
from intrafusion.importance.context import criterion_named
from tests.intrafusion.importance.networks import context_of


@pytest.mark.parametrize("places", [4, 9, 30])
def test_scores_are_what_the_nuclear_norm_loses(places: int) -> None:
    units, samples = 9, 5
    maps = torch.randn(samples, units, places, generator=torch.Generator().manual_seed(0)).double()
    maps[:, 2], maps[:, 3], maps[:, 4] = maps[:, 1], 0, 1e-4 * maps[:, 5]
    expected = torch.zeros(units).double()
    for matrix in maps:
        for unit in range(units):
            masked = matrix.clone()
            masked[unit] = 0
            lost = torch.linalg.matrix_norm(matrix, "nuc") - torch.linalg.matrix_norm(masked, "nuc")
            expected[unit] += lost / samples
    found = independence(maps.movedim(0, 1).unsqueeze(1))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_a_silent_unit_adds_nothing() -> None:
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    network[0].weight.data[2] = 0
    network[0].bias.data[2] = -1
    context = context_of(network, (1, 6), torch.randn(20, 6))
    (group,) = context.analysis.groups
    scores = criterion_named("chip")(group, context)
    assert abs(scores[2]) < 1e-6
    assert (scores[[0, 1, 3, 4]] > 1e-3).all()
