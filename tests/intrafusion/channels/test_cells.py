"""Hidden units prune where a network steps through time by itself, and so do bags and pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.zoo.reference import masked_outputs, random_half
from intrafusion import load
from intrafusion.channels import analyse, remove
from tests.intrafusion.programs import relative_error


class Steps(nn.Module):
    """A cell that goes over a sequence, from a state of zeros or from one of its own."""

    def __init__(self, kind: str, given: bool) -> None:
        super().__init__()
        self.cell = getattr(nn, kind)(6, 12)
        self.start, self.head = nn.Linear(6, 12), nn.Linear(12, 3)
        self.given = given

    def forward(self, x: Tensor) -> Tensor:
        state = torch.tanh(self.start(x[:, 0])) if self.given else x.new_zeros(x.shape[0], 12)
        memory = state
        for t in range(x.shape[1]):
            if isinstance(self.cell, nn.LSTMCell):
                state, memory = self.cell(x[:, t], (state, memory))
            else:
                state = self.cell(x[:, t], state)
        return self.head(state)


class Pairs(nn.Module):
    """A bilinear layer between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 8), nn.Linear(6, 10)
        self.both, self.head = nn.Bilinear(8, 10, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.both(self.left(x), self.right(x))).mean(1))


class Bags(nn.Module):
    """Embeddings of several words, reduced to one vector."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(20, 12, mode=mode), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.bag(x)))


def check(network: nn.Module, form: str, *inputs: Tensor) -> list[int]:
    """Zero then remove; returns the sizes of the groups."""
    source = network.eval()
    if form == "traced":
        source = torch.jit.trace(network, inputs[0])
    analysis = analyse(load(source, example_inputs=inputs[:1]))
    kept = random_half(analysis)
    smaller = remove(analysis, kept).program
    for x in inputs:
        (wanted,) = masked_outputs(analysis, kept, (x,))
        assert relative_error(smaller(x), wanted) <= 1e-5
        assert relative_error(analysis.program(x), network(x)) <= 1e-5
    return [len(group) for group in analysis.groups]


@pytest.mark.parametrize("form", ["module", "traced"])
@pytest.mark.parametrize("given", [False, True], ids=["from zeros", "from a state"])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_hidden_units_of_a_cell(kind: str, given: bool, form: str) -> None:
    torch.manual_seed(0)
    assert check(Steps(kind, given), form, torch.randn(2, 3, 6), torch.randn(5, 3, 6)) == [12]


@pytest.mark.parametrize("form", ["module", "traced"])
def test_all_sides_of_a_bilinear_layer(form: str) -> None:
    torch.manual_seed(0)
    assert check(Pairs(), form, torch.randn(2, 4, 6), torch.randn(5, 4, 6)) == [8, 10, 12]


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
def test_bags_of_embeddings(mode: str) -> None:
    torch.manual_seed(0)
    words = [torch.randint(20, (batch, 4)) for batch in (2, 5)]
    assert check(Bags(mode), "module", *words) == [12]
