"""Where units stand several times in a dimension, their places pair the same way everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion import load
from intrafusion.channels import analyse
from tests.intrafusion.programs import duplicated, relative_error, without_copies


class Rows(nn.Module):
    """Four channels laid out in two rows of two units, then some of them in some order."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 4, 1)
        self.scale = nn.Parameter(torch.rand(4, 1) + 0.5)
        self.head = nn.Linear(6 * len(order), 3)
        self.register_buffer("order", torch.tensor(order))

    def forward(self, x: Tensor) -> Tensor:
        x = (self.first(x) * self.scale).reshape(-1, 2, 2, 6)
        return self.head(torch.tanh(x).reshape(-1, 4, 6)[:, self.order].flatten(1))


@pytest.mark.parametrize("order", [[1, 2], [3, 0, 1, 2]], ids=["part of both", "turned round"])
def test_fusing_exact_copies_is_lossless(order: list[int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 6)
    program = duplicated(analyse(load(Rows(order), example_inputs=(x,))))
    analysis = analyse(program)
    (group,) = analysis.groups
    assert len(group) == 2
    (found,), (wanted,) = without_copies(analysis).outputs(x), program.outputs(x)
    assert relative_error(found, wanted) < 1e-5
