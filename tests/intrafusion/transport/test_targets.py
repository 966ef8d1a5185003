from __future__ import annotations

import torch

from intrafusion.transport.targets import most_important


def units(*rows: float) -> torch.Tensor:
    return torch.tensor([[x, 1 - x, x * x] for x in rows])


def test_the_highest_scores_are_chosen_in_order_of_position() -> None:
    scores = torch.tensor([1.0, 5.0, 2.0, 4.0])
    assert most_important(scores, units(0.1, 0.2, 0.3, 0.4), 2).tolist() == [1, 3]


def test_equal_scores_are_settled_by_position() -> None:
    assert most_important(torch.ones(4), units(0.1, 0.2, 0.3, 0.4), 2).tolist() == [0, 1]


def test_a_copy_comes_after_everything_that_is_new() -> None:
    scores = torch.tensor([9.0, 9.0, 8.0, 1.0])
    vectors = units(0.7, 0.7, 0.5, 0.1)
    assert most_important(scores, vectors, 3).tolist() == [0, 2, 3]
    assert most_important(scores, vectors, 4).tolist() == [0, 1, 2, 3]
