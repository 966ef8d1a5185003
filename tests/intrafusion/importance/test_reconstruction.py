"""Greedy selection against its definition, and on units that others rebuild."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from intrafusion import batches
from intrafusion.importance.context import criterion_named
from intrafusion.importance.sensitivity import Sensed, SensedRows, sense
from intrafusion.importance.subset import select
from tests.intrafusion.importance.networks import context_of, two_layers


def random_place(units: int, rank: int, seed: int) -> Sensed:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(units, rank, generator=generator).double()
    slopes = torch.randn(units, 2 * units, generator=generator).double()
    return Sensed(factor @ factor.T, slopes @ slopes.T)


def unexplained(place: Sensed, kept: list[int]) -> Tensor:
    """tr(M·R), R being the Schur complement of the kept units in C."""
    covariance = place.covariance
    cross = covariance[:, kept]
    rebuilt = cross @ torch.linalg.pinv(covariance[kept][:, kept], hermitian=True) @ cross.T
    return (place.sensitivity * (covariance - rebuilt)).sum()


def test_every_pick_is_the_best_and_the_errors_are_what_is_left() -> None:
    units = 8
    places = [random_place(units, units, 0), random_place(units, units, 1)]
    # What is selected from is used up.
    selection = select([replace(p, covariance=p.covariance.clone()) for p in places])
    order = selection.order.tolist()
    assert sorted(order) == list(range(units))
    for picks in range(units):
        left = [
            sum(unexplained(place, [*order[:picks], unit]) for place in places)
            for unit in order[picks:]
        ]
        assert left[0] == pytest.approx(float(min(left)), rel=1e-6, abs=1e-6)
        assert float(selection.errors[picks + 1]) == pytest.approx(
            float(left[0]), rel=1e-6, abs=1e-6
        )


def test_rows_are_selected_from_as_their_moments_are() -> None:
    generator = torch.Generator().manual_seed(0)
    places = [
        SensedRows(*(torch.randn(30, r, generator=generator).double() for r in (rank, 2 * rank)))
        for rank in (4, 9)
    ]
    by_moments = select([place.moments() for place in places])
    by_rows = select(places)
    # The last of nine picks is between units that rebuild alike, and rounding decides.
    assert by_rows.order[:8].tolist() == by_moments.order[:8].tolist()
    torch.testing.assert_close(by_rows.errors[:9], by_moments.errors[:9])
    assert by_rows.errors[9] < 1e-9 * by_rows.errors[0]


def test_few_samples_of_many_units_stay_rows() -> None:
    samples = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Linear(6, 50), nn.ReLU(), nn.Linear(50, 3))
    context = context_of(network, (1, 6), samples)
    ((_, (few,)),) = sense(context.analysis, (samples,))
    assert isinstance(few, SensedRows)
    ((_, (many,)),) = sense(context.analysis, (samples.repeat(5, 1),))
    assert isinstance(many, Sensed)
    # The same samples five times have the same covariance.
    torch.testing.assert_close(few.moments().covariance, many.covariance)


def test_nothing_is_left_once_the_rank_is_reached() -> None:
    selection = select([random_place(12, 5, 0)])
    assert selection.errors[5] < 1e-6 * selection.errors[0]
    assert selection.errors[4] > 1e-3 * selection.errors[0]


def test_silent_units_and_copies_are_kept_last() -> None:
    network = two_layers()
    with torch.no_grad():
        network[0].weight[3] = network[0].weight[7]
        network[0].bias[3] = network[0].bias[7]
        network[0].weight[5] = 0
        network[0].bias[5] = -1
    samples = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    context = context_of(network, (1, 3, 8, 8), samples)
    (group,) = context.analysis.groups
    scores = criterion_named("reconstruction")(group, context)
    assert set(scores.argsort()[:2].tolist()) in ({3, 5}, {7, 5})
    assert sorted(scores.tolist()) == list(range(1, len(group) + 1))


def test_sensitivity_is_the_gauss_newton_matrix_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    samples = torch.randn(4000, 6)
    context = context_of(network, (1, 6), samples)
    ((_, (place,)),) = sense(context.analysis, (samples,))
    assert isinstance(place, Sensed)
    with torch.no_grad():
        hidden = network[:2](samples).double()
        variance = network(samples).double().var(correction=0) * 3
        weight = network[2].weight.double()
    torch.testing.assert_close(place.covariance, hidden.T.cov(correction=0), rtol=1e-4, atol=1e-5)
    expected = weight.T @ weight / variance
    torch.testing.assert_close(place.sensitivity, expected, rtol=0.1, atol=0.02)


def test_batches_of_samples_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    context = context_of(two_layers(), (1, 3, 8, 8), samples)
    ((_, (whole,)),) = sense(context.analysis, (samples,))
    monkeypatch.setattr(batches, "BATCH_BYTES", 1)
    ((_, (parts,)),) = sense(context.analysis, (samples,))
    assert isinstance(whole, Sensed)
    assert isinstance(parts, Sensed)
    torch.testing.assert_close(whole.covariance, parts.covariance)
    ratio = parts.sensitivity.trace() / whole.sensitivity.trace()
    assert 0.7 < ratio < 1.4
