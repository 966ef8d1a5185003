"""The reduced problem has the optimum of the full one."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from intrafusion.transport.plan import survivor_plan

sizes = st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def problem(n: int, m: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All costs (n, m) between n points and m of them, under a metric, and which these are."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(n, 5))
    survivors = np.sort(generator.choice(n, m, replace=False)).astype(np.int64)
    return np.abs(points[:, None] - points[survivors][None]).sum(2), survivors


def reduced(cost: NDArray[np.float64], survivors: NDArray[np.int64]) -> NDArray[np.float64]:
    plan = survivor_plan(np.delete(cost, survivors, axis=0), survivors, len(cost))
    return plan.to_dense().numpy()


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 10_000))
def test_marginals_are_uniform(size: tuple[int, int], seed: int) -> None:
    n, m = size
    plan = reduced(*problem(n, m, seed))
    assert plan.min() >= 0
    np.testing.assert_allclose(plan.sum(1), 1 / n, atol=1e-12)
    np.testing.assert_allclose(plan.sum(0), 1 / m, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 10_000))
def test_the_cost_is_that_of_the_full_problem(size: tuple[int, int], seed: int) -> None:
    n, m = size
    cost, survivors = problem(n, m, seed)
    full = ot.emd(np.full(n, 1 / n), np.full(m, 1 / m), cost)
    assert float((reduced(cost, survivors) * cost).sum()) == pytest.approx(
        float((full * cost).sum()), abs=1e-9
    )


@pytest.mark.parametrize(("n", "m"), [(64, 32), (96, 32), (64, 48)])
def test_assignment_and_network_simplex_agree_at_size(n: int, m: int) -> None:
    cost, survivors = problem(n, m, 0)
    full = ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), cost)
    assert float((reduced(cost, survivors) * cost).sum()) == pytest.approx(full, abs=1e-9)


def test_nothing_moves_when_all_survive() -> None:
    cost, survivors = problem(6, 6, 0)
    np.testing.assert_allclose(reduced(cost, survivors), np.eye(6) / 6)
