"""Removing units of which nothing is left changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion import load
from intrafusion.channels import analyse, remove
from tests.intrafusion.channels.test_analysis import Gated, Grouped, SplitAndMerge
from tests.intrafusion.programs import (
    FORMS,
    example,
    halves,
    program_of,
    relative_error,
    zeroed,
)
from tests.networks import NETWORKS


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_zero_then_remove(name: str, form: str) -> None:
    analysis = analyse(program_of(name, form))
    kept = halves(analysis)
    smaller = remove(analysis, kept).program
    reference = zeroed(analysis, kept)
    assert smaller.parameter_count < 0.5 * analysis.program.parameter_count
    for batch in (1, 2, 5):
        x = example(batch, seed=batch)
        assert relative_error(smaller(x), reference(x)) <= 1e-5


class Picked(nn.Module):
    """Every other channel, and then channels in an order that a buffer holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 2, 1)
        self.register_buffer("order", torch.tensor([3, 0, 5, 1, 4, 2]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()[:, ::2])
        return self.last(x.relu()[:, self.order])


class OneFilterPerGroup(nn.Module):
    """A grouped transposed convolution that is a depthwise one once it has lost a filter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.depthwise = nn.ConvTranspose2d(4, 4, 2, groups=4)
        self.grouped = nn.ConvTranspose2d(4, 4, 2, groups=2)
        self.beside, self.last = nn.Linear(400, 4), nn.Linear(404, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.depthwise(self.first(x))).flatten(1)
        return self.last(torch.cat([x, self.beside(x)], 1))


@pytest.mark.parametrize("network", [Gated, SplitAndMerge, Grouped, Picked, OneFilterPerGroup])
def test_zero_then_remove_on_gates_splits_groups_and_indices(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    analysis = analyse(load(network().eval(), input_shapes=[(1, 3, 8, 8)]))
    kept = halves(analysis)
    smaller, reference = remove(analysis, kept).program, zeroed(analysis, kept)
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 8, 8)
        assert relative_error(smaller(x), reference(x)) <= 1e-5


def test_the_original_is_left_alone() -> None:
    program = program_of("resnet")
    before = {name: tensor.clone() for name, tensor in program.tensors.items()}
    code = program.graph.python_code("self").src
    analysis = analyse(program)
    remove(analysis, halves(analysis))
    assert program.graph.python_code("self").src == code
    assert all(torch.equal(before[name], program.tensors[name]) for name in before)


def test_one_unit_may_be_all_that_is_left() -> None:
    analysis = analyse(program_of("resnet"))
    kept = {group: torch.tensor([len(group) - 1]) for group in analysis.groups}
    smaller, reference = remove(analysis, kept).program, zeroed(analysis, kept)
    assert relative_error(smaller(example(5)), reference(example(5))) <= 1e-5


class Halves(nn.Module):
    """A grid of two rows whose columns are units, taken apart and put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).reshape(-1, 2, 4).split(2, 2)
        return self.last(torch.cat([left.relu(), right], 2).flatten(1))


def test_one_column_of_a_grid_may_be_all_that_is_left() -> None:
    torch.manual_seed(0)
    analysis = analyse(load(Halves(), input_shapes=[(1, 6)]))
    kept = {group: torch.tensor([1]) for group in analysis.groups}
    smaller, reference = remove(analysis, kept).program, zeroed(analysis, kept)
    x = torch.randn(5, 6)
    assert len(kept) == 2
    assert relative_error(smaller(x), reference(x)) <= 1e-5


class LeastOfEveryOther(nn.Module):
    """Nothing reads the channels but a statistic over every other of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x)[:, ::2].amin(1, keepdim=True))


def test_a_statistic_over_a_slice_keeps_one_of_its_channels() -> None:
    torch.manual_seed(0)
    analysis = analyse(load(LeastOfEveryOther(), input_shapes=[(1, 3, 4, 4)]))
    seen, unseen = analysis.groups
    assert [len(seen), len(unseen)] == [3, 3]
    kept = {seen: torch.tensor([1]), unseen: torch.tensor([1, 2])}
    smaller, x = remove(analysis, kept).program, torch.randn(5, 3, 4, 4)
    left = analysis.program.tensors
    least = nn.functional.conv2d(x, left["first.weight"][2:3], left["first.bias"][2:3])
    wanted = nn.functional.conv2d(least, left["last.weight"], left["last.bias"])
    assert relative_error(smaller(x), wanted) <= 1e-5


def test_a_program_can_be_shrunk_again() -> None:
    once = program_of("mobilenet")
    analysis = analyse(once)
    once = remove(analysis, halves(analysis)).program
    again = analyse(once)
    kept = halves(again, seed=1)
    smaller, reference = remove(again, kept).program, zeroed(again, kept)
    assert relative_error(smaller(example(3)), reference(example(3))) <= 1e-5
