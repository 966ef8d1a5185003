from __future__ import annotations

from datetime import timedelta

import pytest

from service.store.database import now
from service.web import words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (269_445, "269 kB"),
        (5e9, "5.0 GB"),
    ],
)
def test_sizes(count: float | None, text: str) -> None:
    assert words.size(count) == text


def test_changes_have_a_sign_and_nothing_changes_by_minus_zero() -> None:
    assert words.change(241_898, 64_871) == "−73.2\u202f%"
    assert words.change(1, 2) == "+100.0\u202f%"
    assert words.change(100_000, 99_999) == "0.0\u202f%"
    assert words.change(None, 1) == words.change(0, 1) == ""
    assert words.points(-0.0045) == "−0.45 points"
    assert words.ratio(10, 4) == "2.5×"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"), (3 * 86400, "3 days ago")],
)
def test_moments(seconds: float, text: str) -> None:
    assert words.ago(now() - timedelta(seconds=seconds)) == text


def test_durations() -> None:
    began = now() - timedelta(hours=2)
    assert words.duration(began, began + timedelta(seconds=4.26)) == "4.3 s"
    assert words.duration(began, began + timedelta(seconds=125)) == "2 min 05 s"
    assert words.duration(began, began + timedelta(minutes=61)) == "1 h 01 min"
    assert words.duration(None, None) == "–"
