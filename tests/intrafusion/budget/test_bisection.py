"""Few tries find the border of a property."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intrafusion.budget.bisection import RESOLUTION, boundary, tries


@given(st.floats(0.001, 0.9), st.floats(0, 1), st.booleans())
def test_the_border_is_found_to_the_resolution(least: float, place: float, above: bool) -> None:
    border = least ** (1 - place)  # anywhere from the least to 1
    asked: list[float] = []

    def holds(share: float) -> bool:
        asked.append(share)
        return share >= border if above else share <= border

    found = boundary(holds, least, 1.0, above=above)
    assert len(asked) == tries(least, 1.0) <= 8
    if found is None:
        assert border >= max(asked) / RESOLUTION if above else border <= min(asked) * RESOLUTION
    else:
        assert found in asked
        assert 1 / RESOLUTION <= found / border <= RESOLUTION
        assert (found >= border) == above or found == border


def test_where_there_is_no_range_nothing_is_tried() -> None:
    assert boundary(lambda share: True, 1.0, 1.0, above=True) is None
