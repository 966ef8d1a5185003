from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrafusion.report import GroupReport
from service.web.charts import Point, curve, group_bars

POINTS = st.builds(
    Point,
    size=st.floats(0, 1e12),
    quality=st.floats(0, 1),
    label=st.just("x"),
    kind=st.sampled_from(["original", "result", "tried", "job"]),
)


@given(st.lists(POINTS, min_size=2, max_size=20))
def test_every_network_lies_within_the_picture_and_in_order(points: list[Point]) -> None:
    picture = curve(points)
    assert picture is not None
    for placed in picture.points:
        assert picture.left <= placed.x <= picture.width
        assert 0 <= placed.y <= picture.bottom
    ordered = sorted(picture.points, key=lambda placed: placed.point.size)
    assert all(a.x <= b.x for a, b in pairwise(ordered))
    best_first = sorted(picture.points, key=lambda placed: -placed.point.quality)
    assert all(a.y <= b.y for a, b in pairwise(best_first))
    assert len(picture.across) < 12
    assert len(picture.up) < 12


def test_one_network_makes_no_curve() -> None:
    assert curve([Point(1, 1, "alone", "original")]) is None


def test_other_jobs_are_not_on_the_line() -> None:
    picture = curve(
        [Point(4, 0.9, "", "original"), Point(2, 0.8, "", "job"), Point(1, 0.7, "", "result")]
    )
    assert picture is not None
    assert len(picture.line.split()) == 2


def test_bars_are_as_long_as_groups_are_large() -> None:
    def group(name: str, units: int, kept: int) -> GroupReport:
        return GroupReport(name=name, units=units, kept=kept, layers=[], parameter_share=0)

    first, second = group_bars([group("a.weight", 32, 8), group("b.bias", 128, 128)])
    assert (first.name, first.track, first.fill) == ("a", pytest.approx(25), pytest.approx(6.25))
    assert (second.name, second.track, second.fill) == ("b.bias", 100, 100)
    assert group_bars([]) == []
