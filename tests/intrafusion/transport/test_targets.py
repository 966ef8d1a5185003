from __future__ import annotations

import pytest
import torch

from intrafusion.transport import TARGETS
from intrafusion.transport.targets import Targets, gmm, kmeans, most_important
from intrafusion.transport.units import Units
from tests.intrafusion.transport.vectors import units_of_vectors


def units(*rows: float) -> Units:
    return units_of_vectors(torch.tensor([[x, 1 - x, x * x] for x in rows]))


def test_the_highest_scores_are_chosen_in_order_of_position() -> None:
    scores = torch.tensor([1.0, 5.0, 2.0, 4.0])
    assert most_important(scores, units(0.1, 0.2, 0.3, 0.4), 2, 0).kept.tolist() == [1, 3]


def test_equal_scores_are_settled_by_position() -> None:
    assert most_important(torch.ones(4), units(0.1, 0.2, 0.3, 0.4), 2, 0).kept.tolist() == [0, 1]


def test_a_copy_comes_after_everything_that_is_new() -> None:
    scores = torch.tensor([9.0, 9.0, 8.0, 1.0])
    given = units(0.7, 0.7, 0.5, 0.1)
    assert most_important(scores, given, 3, 0).kept.tolist() == [0, 2, 3]
    assert most_important(scores, given, 4, 0).kept.tolist() == [0, 1, 2, 3]


def clusters(sizes: list[int], seed: int = 0) -> torch.Tensor:
    """Units of length 1 in tight clusters of these sizes, around axes of their own."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.eye(len(sizes), 8).repeat_interleave(torch.tensor(sizes), 0)
    noise = 0.01 * torch.randn(sum(sizes), 8, generator=generator)
    return torch.nn.functional.normalize(axes + noise, dim=1)


@pytest.mark.parametrize("target", [kmeans, gmm])
def test_centroids_lie_in_the_clusters_and_stand_in_the_place_of_a_member(target) -> None:
    vectors = clusters([5, 2, 9])
    targets: Targets = target(torch.ones(16), units_of_vectors(vectors), 3, 0)
    cluster = torch.tensor([0] * 5 + [1] * 2 + [2] * 9)
    assert cluster[targets.kept].tolist() == [0, 1, 2]
    assert targets.points is not None
    for number, point in enumerate(targets.points):
        mean = torch.nn.functional.normalize(vectors[cluster == number].mean(0), dim=0)
        torch.testing.assert_close(point, mean, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", TARGETS.built_in)
def test_every_target_is_of_length_1_in_a_place_of_its_own_and_follows_the_seed(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(20, 6, generator=generator), dim=1)
    scores = torch.rand(20, generator=generator)
    once, again = (TARGETS.get(name)(scores, units_of_vectors(vectors), 12, 3) for _ in range(2))
    assert once.kept.tolist() == sorted(set(once.kept.tolist()))
    assert torch.equal(once.kept, again.kept)
    if once.points is not None:
        torch.testing.assert_close(once.points.norm(dim=1), torch.ones(12))
        assert torch.equal(once.points, again.points)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("target", [kmeans, gmm])
def test_fewer_kinds_of_units_than_targets_repeat_targets(target) -> None:
    given = units_of_vectors(torch.eye(3).repeat(4, 1))
    targets: Targets = target(torch.ones(12), given, 5, 0)
    assert len(set(targets.kept.tolist())) == 5
    assert targets.points is not None
    kinds = {tuple(point) for point in targets.points.round(decimals=3).tolist()}
    assert kinds == {tuple(row) for row in torch.eye(3).tolist()}
