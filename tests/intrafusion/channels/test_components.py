"""Components by hooking are those that scipy finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from intrafusion.channels.components import components
from intrafusion.channels.runs import Integers


def by_scipy(count: int, a: Integers, b: Integers) -> Integers:
    edges = coo_array((np.ones(len(a)), (a, b)), (count, count))
    found: Integers = connected_components(edges, directed=False)[1]
    return found


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60))
def test_numbers_are_in_the_order_of_the_first_of_each(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    np.testing.assert_array_equal(components(30, a, b), by_scipy(30, a, b))


@pytest.mark.parametrize("order", ["as it is", "shuffled", "backwards"])
def test_a_long_path_is_one(order: str) -> None:
    count = 20_000
    path = np.arange(count)
    if order == "shuffled":
        path = np.random.default_rng(0).permutation(count)
    a, b = path[:-1], path[1:]
    if order == "backwards":
        a, b = b[::-1], a[::-1]
    assert not components(count, a, b).any()
    cut = np.delete(a, 7), np.delete(b, 7)
    np.testing.assert_array_equal(components(count, *cut), by_scipy(count, *cut))
