"""Distances in blocks are the distances."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intrafusion.evaluation.latency import on_threads
from intrafusion.transport import absolute, cost
from intrafusion.transport.cost import distances, distances_within
from tests.intrafusion.transport.vectors import units_of_vectors

sizes = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40))


@pytest.mark.parametrize("p", [1, 2])
@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 10_000))
def test_blocks_of_any_size_sum_to_the_norm(
    p: Literal[1, 2], size: tuple[int, int, int], seed: int
) -> None:
    n, m, d = size
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)
    expected = torch.linalg.vector_norm(x[:, None].double() - y.double(), p, dim=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "WORTH_COMPILING", 0)
        patch.setattr(cost, "DIMENSIONS", 11)
        found = distances(x, y, p)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_more_than_a_block_is_the_same_on_any_number_of_threads(threads: int) -> None:
    n, m, d = absolute.COLUMNS + 3, 2 * absolute.COLUMNS + 5, cost.DIMENSIONS + 17
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)

    def summed() -> torch.Tensor:
        total = torch.zeros(n, m, dtype=torch.float64)
        absolute.add_absolute(zip(x.split(1000, 1), y.split(1000, 1), strict=True), total)
        return total

    found = summed()
    torch.testing.assert_close(found, torch.cdist(x.double(), y.double(), p=1.0), rtol=1e-6, atol=0)
    with on_threads(threads):
        assert torch.equal(summed(), found)


@pytest.mark.parametrize("p", [1, 2])
def test_a_unit_is_no_way_from_itself(p: Literal[1, 2]) -> None:
    x = torch.nn.functional.normalize(
        torch.randn(40, 3000, generator=torch.Generator().manual_seed(0)), dim=1
    )
    assert distances(x, x, p).diagonal().max() < 1e-6


@pytest.mark.parametrize("p", [1, 2])
def test_units_are_as_far_from_each_other_as_their_vectors(p: Literal[1, 2]) -> None:
    units = units_of_vectors(torch.randn(40, 3000, generator=torch.Generator().manual_seed(0)))
    vectors, some, others = units.vectors(), torch.arange(0, 40, 3), torch.arange(1, 40, 2)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(40))
    torch.testing.assert_close(
        distances_within(units, some, others, p).float(),
        distances(vectors[some], vectors[others], p),
    )
