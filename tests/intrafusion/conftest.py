"""What all tests of the engine share."""

from __future__ import annotations

import pytest

from intrafusion.calibration.made import kind, search, statistics


@pytest.fixture(autouse=True)
def few_made_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks make few samples in few steps; tests that look at these ask for more."""
    monkeypatch.setattr(search, "STEPS", 20)
    monkeypatch.setattr(statistics, "SAMPLES", 16)
    monkeypatch.setattr(kind, "SAMPLES", 16)
