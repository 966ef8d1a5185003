"""What all tests of the engine share."""

from __future__ import annotations

import pytest

from intrafusion.calibration.made import search
from intrafusion.calibration.made.classes import Classes
from intrafusion.calibration.made.kind import Kind
from intrafusion.calibration.made.statistics import Statistics


@pytest.fixture(autouse=True)
def few_made_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks make few samples in few steps; tests that look at these ask for more."""
    monkeypatch.setattr(search, "STEPS", 20)
    monkeypatch.setattr(Kind, "enough", 16)
    monkeypatch.setattr(Statistics, "wanted", 16)
    monkeypatch.setattr(Classes, "wanted", 16)
