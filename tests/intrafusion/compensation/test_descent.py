"""Steps of the joint refit: every direction of a matrix counts the same, and so does its size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion.compensation.descent import (
    AFFORDABLE_STEPS,
    OrthogonalDescent,
    macs_of_a_step,
    orthogonalised,
)
from intrafusion.effort import AFFORDABLE


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (24, 24), (1, 9), (9, 1)])
def test_singular_values_become_alike(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    uneven = left * torch.logspace(-1, 0, len(values)) @ right
    found = orthogonalised(uneven)
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (found - left @ right).norm() < 0.35 * (left @ right).norm()


def test_zero_has_no_direction() -> None:
    assert torch.equal(orthogonalised(torch.zeros(3, 5)), torch.zeros(3, 5))


@pytest.mark.parametrize("shape", [(16, 8), (6, 4, 3, 3), (8,)])
def test_a_step_is_a_share_of_the_parameter_whatever_the_gradient(shape: tuple[int, ...]) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    for size in (1e-6, 1.0, 1e6):
        for slope in (1e-12, 1.0, 1e12):
            moved = start * size - stepped(start * size, gradient * slope)
            share = moved.square().mean().sqrt() / (start * size).square().mean().sqrt()
            assert 0.005 < share < 0.013


def test_what_has_no_gradient_stays() -> None:
    parameters = [nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))]
    OrthogonalDescent(parameters, 0.1).step()
    assert all(torch.equal(p, torch.ones_like(p)) for p in parameters)


def test_what_is_too_large_to_orthogonalise_moves_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, gradient = torch.ones(8, 8), torch.full((8, 8), 2.0)
    macs = macs_of_a_step([start, torch.ones(8)])
    assert macs == 5 * (2 * 8**3 + 8**3)
    monkeypatch.setitem(AFFORDABLE, "cpu", AFFORDABLE_STEPS * macs - 1)
    assert macs_of_a_step([start]) == 0
    assert torch.allclose(stepped(start, gradient), start * 0.99)


def stepped(start: Tensor, gradient: Tensor) -> Tensor:
    parameter = nn.Parameter(start.clone())
    parameter.grad = gradient
    OrthogonalDescent([parameter], 0.01).step()
    return parameter.detach()
