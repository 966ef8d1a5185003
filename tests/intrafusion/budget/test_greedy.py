"""Spending units where they are missed least."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from intrafusion.budget.greedy import ladder, spend
from intrafusion.budget.size import Size


def units(count: int) -> Size:
    return Size(np.zeros(count), np.eye(count), np.arange(count)[:, None])


def falling(steps: list[float]) -> np.ndarray:
    """A convex error curve with 0, 1, … units left."""
    drops = sorted(steps, reverse=True)
    return np.append(np.cumsum(drops[::-1])[::-1], 0.0)


curves = st.lists(
    st.lists(st.floats(0.01, 10), min_size=3, max_size=6).map(falling), min_size=2, max_size=3
)


@settings(max_examples=60, deadline=None)
@given(curves, st.integers(3, 12))
def test_on_convex_curves_no_other_choice_is_better(errors: list[np.ndarray], goal: int) -> None:
    ladders = [ladder(len(curve) - 1, 1) for curve in errors]
    kept = spend(ladders, errors, [(units(len(errors)), goal)])
    assert sum(kept) <= max(goal, len(errors))
    cost = sum(curve[count] for curve, count in zip(errors, kept, strict=True))
    others = [
        sum(curve[count] for curve, count in zip(errors, choice, strict=True))
        for choice in itertools.product(*ladders)
        if sum(choice) <= sum(kept)
    ]
    assert cost <= min(others) + 1e-9


def test_a_cheap_step_behind_a_dear_one_is_reached() -> None:
    dear_first = np.array([5.0, 1.1, 1.0, 0.0])
    even = np.array([4.0, 2.0, 0.9, 0.0])
    assert spend([[3, 2, 1], [3, 2, 1]], [dear_first, even], [(units(2), 4)]) == [1, 3]


def test_of_two_costs_the_one_that_is_farther_off_counts_more() -> None:
    line = np.arange(10.0, -1, -1)
    first, second = (Size(np.zeros(1), np.eye(2)[[k]], np.zeros((1, 1), int)) for k in (0, 1))
    assert spend([ladder(10, 1)] * 2, [line, line], [(first, 4), (second, 8)]) == [4, 8]
    assert spend([ladder(10, 1)] * 2, [line, line], [(units(2), 19), (second, 4)]) == [10, 4]


def test_ladders_keep_multiples_and_a_tenth() -> None:
    assert ladder(10, 4) == [10, 8, 4]
    assert ladder(100, 8)[-1] == 16
    assert ladder(3, 8) == [3]
    assert ladder(5, 1) == [5, 4, 3, 2, 1]
