"""The ridge solve has the limits it should have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from intrafusion.compensation.ridge import Rows, residual, solve


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_plentiful_data_give_the_map_that_made_them() -> None:
    weight, bias, read = draw(4, 6), draw(4, seed=1), draw(500, 6, seed=2) + 3
    rows = Rows(read[:, None], read @ weight.T + bias)
    solution = solve(rows, torch.zeros(1, 4, 6), 1e-9, intercept=True)
    torch.testing.assert_close(solution.weight[0].float(), weight, atol=1e-4, rtol=1e-4)
    assert solution.bias is not None
    torch.testing.assert_close(solution.bias.float(), bias, atol=1e-3, rtol=1e-3)
    assert residual(rows, solution) < 1e-6


def test_an_infinite_ridge_gives_the_prior() -> None:
    prior = draw(4, 6)
    rows = Rows(draw(100, 1, 6, seed=1), draw(100, 4, seed=2))
    solution = solve(rows, prior[None], 1e9, intercept=True)
    torch.testing.assert_close(solution.weight[0].float(), prior, atol=1e-5, rtol=1e-5)


def test_a_constant_input_leaves_the_prior_and_moves_the_bias() -> None:
    prior = draw(2, 3)
    rows = Rows(torch.ones(50, 1, 3), torch.full((50, 2), 7.0))
    solution = solve(rows, prior[None], 1e-3, intercept=True)
    torch.testing.assert_close(solution.weight[0].float(), prior)
    torch.testing.assert_close(solution(rows.read), rows.wanted)


def test_a_layer_without_bias_gets_none() -> None:
    weight, read = draw(4, 6), draw(500, 6, seed=2) + 3
    solution = solve(
        Rows(read[:, None], read @ weight.T), torch.zeros(1, 4, 6), 1e-9, intercept=False
    )
    assert solution.bias is None
    torch.testing.assert_close(solution.weight[0].float(), weight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("added", [None, 0.7])
def test_relaxing_where_relu_is_flat_fits_what_relu_lets_through(added: float | None) -> None:
    read, weight = draw(2000, 3), draw(8, 12, seed=1)
    full = torch.cat([read, draw(2000, 9, seed=2)], 1)
    wanted = full @ weight.T - 1
    offset = None if added is None else torch.full_like(wanted, added)
    plain = Rows(read[:, None], wanted, offset)
    relaxed = Rows(read[:, None], wanted, offset, low=0.0)

    def error(rows: Rows) -> float:
        solution = solve(rows, torch.zeros(1, 8, 3), 1e-6, intercept=True)
        shift = 0.0 if added is None else added
        return float(
            (torch.relu(solution(read[:, None]) + shift) - torch.relu(wanted + shift)).norm()
        )

    assert error(relaxed) < 0.98 * error(plain)


def test_each_channel_is_solved_from_its_own_inputs() -> None:
    weight, bias, read = draw(5, 9), draw(5, seed=1), draw(400, 5, 9, seed=2) + 1
    wanted = torch.einsum("rod,od->ro", read, weight) + bias
    rows = Rows(read, wanted)
    solution = solve(rows, torch.zeros(5, 1, 9), 1e-9, intercept=True)
    torch.testing.assert_close(solution.weight[:, 0].float(), weight, atol=1e-4, rtol=1e-4)
    assert residual(rows, solution) < 1e-6


def test_a_dead_channel_keeps_its_prior() -> None:
    read = draw(100, 2, 3)
    read[:, 1] = 0
    prior = draw(2, 3, seed=1)
    solution = solve(Rows(read, draw(100, 2, seed=2)), prior[:, None], 1e-3, intercept=True)
    torch.testing.assert_close(solution.weight[1, 0].float(), prior[1])
    assert bool(torch.isfinite(solution.weight).all())


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_few_rows_give_what_the_same_rows_many_times_give(parts: int, intercept: bool) -> None:
    read, prior = draw(9, parts, 12) + 1, draw(parts, 4, 12, seed=1)
    few = Rows(read, draw(9, parts * 4, seed=2), low=0.0)
    many = Rows(read.repeat(5, 1, 1), few.wanted.repeat(5, 1), low=0.0)
    found, expected = (solve(rows, prior, 0.1, intercept=intercept) for rows in (few, many))
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-5, atol=1e-5)
    if intercept:
        torch.testing.assert_close(found.bias, expected.bias, rtol=1e-5, atol=1e-5)
