"""Runs in the order in which they are compared."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from intrafusion.channels.runs import in_order

FEW = st.integers(0, 3)


@given(st.lists(st.tuples(FEW, FEW, FEW), max_size=30), st.booleans())
def test_the_order_is_that_of_lexsort(rows: list[tuple[int, int, int]], nearly: bool) -> None:
    if nearly:
        rows = sorted(rows, key=lambda row: row[::-1])
    keys = np.array(rows, np.int64).reshape(-1, 3).T
    place, sort, unit = keys
    np.testing.assert_array_equal(in_order(place, sort, unit), np.lexsort(keys))
