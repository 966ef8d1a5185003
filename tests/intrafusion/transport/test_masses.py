from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intrafusion.transport.masses import masses

scores = st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=40).map(torch.tensor)


@pytest.mark.parametrize("kind", ["uniform", "importance", "softmax"])
@given(importance=scores)
def test_masses_are_positive_and_sum_to_one(kind, importance: torch.Tensor) -> None:
    found = masses(kind, importance)
    assert (found > 0).all()
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    if kind != "uniform":
        assert (found[importance.argsort()].diff() >= 0).all()


def test_masses_by_hand() -> None:
    importance = torch.tensor([1.0, 3.0])
    assert masses("uniform", importance).tolist() == [0.5, 0.5]
    assert masses("importance", importance).tolist() == [0.25, 0.75]
    torch.testing.assert_close(
        masses("softmax", importance), torch.tensor([1.0, 3.0]).double().softmax(0)
    )


def test_a_unit_of_no_importance_keeps_a_trace() -> None:
    found = masses("importance", torch.tensor([0.0, 1.0]))
    assert 0 < found[0] < 1e-5
    assert masses("importance", torch.zeros(2)).tolist() == [0.5, 0.5]
