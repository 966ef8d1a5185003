"""Where units stand several times in a dimension, their places pair the same way everywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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


class Turned(nn.Module):
    """Channels in some order, laid out in rows of which each is one unit: place 0 of one row is
    like place 0 of the other, wherever they stood before.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.beside = nn.Linear(7, 8), nn.Linear(7, 2)
        self.last = nn.Conv1d(2, 3, 1)
        self.register_buffer("order", torch.tensor([5, 1, 3, 6, 7, 4, 0, 2]))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.first(x)[:, self.order]
        if self.kind == "met by a vector":
            rows = rows.reshape(-1, 2, 4) * self.beside(x)[:, :, None]
        elif self.kind == "met by copies":
            rows = (rows * self.beside(x).repeat_interleave(4, 1)).reshape(-1, 2, 4)
        else:
            rows = rows.reshape(-1, 2, 4)
        return self.last(torch.tanh(rows))


class InGroups(nn.Module):
    """Every third filter of a grouped convolution, of which each group must keep as many."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv1d(5, 4, 1), nn.Conv1d(4, 8, 1, groups=2)
        self.last = nn.Linear(3 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.grouped(self.first(x))[:, ::3].flatten(1))


KINDS = ("read by rows", "met by a vector", "met by copies")


@pytest.mark.parametrize(
    ("network", "shape"),
    [*[(partial(Turned, kind), (7,)) for kind in KINDS], (InGroups, (5, 3))],
    ids=[*KINDS, "in groups"],
)
def test_copies_that_were_put_in_another_order(
    network: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, *shape)
    program = duplicated(analyse(load(network(), example_inputs=(x,))))
    analysis = analyse(program)
    assert analysis.groups
    (found,), (wanted,) = without_copies(analysis).outputs(x), program.outputs(x)
    assert relative_error(found, wanted) < 1e-5


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
