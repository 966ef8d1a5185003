"""Whatever the choices: marginals, optimal cost, and maps whose rows sum to one."""

from __future__ import annotations

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intrafusion import CompressionSpec
from intrafusion.fusion import fusion_map
from intrafusion.transport import TARGETS
from intrafusion.transport.cost import distances
from intrafusion.transport.coupling import couple
from intrafusion.transport.masses import masses
from intrafusion.transport.units import Units
from tests.intrafusion.transport.vectors import units_of_vectors

MASSES = ["uniform", "importance", "softmax"]
sizes = st.integers(2, 24).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))
specs = st.builds(
    CompressionSpec,
    target=st.sampled_from(sorted(TARGETS.built_in)),
    source_mass=st.sampled_from(MASSES),
    target_mass=st.sampled_from(MASSES),
    distance=st.sampled_from([1, 2]),
)


def units(n: int, seed: int) -> tuple[Units, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, 5, generator=generator)
    return units_of_vectors(vectors), torch.rand(n, generator=generator)


@settings(max_examples=80, deadline=None)
@given(sizes, st.integers(0, 10_000), specs)
def test_plans_have_the_masses_asked_for_and_the_least_cost(
    size: tuple[int, int], seed: int, spec: CompressionSpec
) -> None:
    n, m = size
    given, importance = units(n, seed)
    coupling = couple(given, importance, m, spec)
    targets = TARGETS.get(spec.target)(importance, given, m, spec.seed)
    source, target = (
        masses(spec.source_mass, importance),
        masses(spec.target_mass, importance[targets.kept]),
    )
    plan = coupling.plan.to_dense()
    assert plan.min() >= 0
    torch.testing.assert_close(plan.sum(1), source, atol=1e-12, rtol=0)
    torch.testing.assert_close(plan.sum(0), target, atol=1e-12, rtol=0)
    vectors = given.vectors()
    points = vectors[targets.kept] if targets.points is None else targets.points
    cost = distances(vectors, points, spec.distance).double()
    least = ot.emd2(source.numpy(), target.numpy(), cost.numpy())
    assert float((plan * cost).sum()) == pytest.approx(least, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 10_000), specs)
def test_rows_of_both_maps_sum_to_one(
    size: tuple[int, int], seed: int, spec: CompressionSpec
) -> None:
    n, m = size
    given, importance = units(n, seed)
    coupling = couple(given, importance, m, spec)
    mapping = fusion_map(coupling.plan, coupling.kept, "mean")
    torch.testing.assert_close(mapping.producer.to_dense().sum(1), torch.ones(m).double())
    torch.testing.assert_close(mapping.consumer.to_dense().sum(1), torch.ones(n).double())
