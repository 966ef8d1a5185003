"""Folding batch norm changes the parameters and not the outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion import load
from intrafusion.folding import fold_batch_norm
from intrafusion.program.nodes import name_of
from tests.intrafusion.programs import example, program_of, relative_error, trained_looking
from tests.networks import NETWORKS


def norms(program: object) -> int:
    return sum(
        node.op == "call_function" and name_of(node) == "batch_norm"
        for node in program.graph.nodes  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_stay(name: str) -> None:
    program = program_of(name)
    folded = fold_batch_norm(program).program
    assert relative_error(folded(example(5)), program(example(5))) <= 1e-5


def test_norms_vanish_and_biases_appear() -> None:
    program = program_of("resnet")
    folded = fold_batch_norm(program).program
    assert norms(program) == 8
    assert norms(folded) == 0
    assert "stem.0.bias" in folded.trainable
    assert "stem.1.weight" not in folded.tensors


def test_norms_behind_a_concatenation_or_with_a_second_reader_stay() -> None:
    program = program_of("concat")
    # norm1 reads the stem, which the concatenations read too.
    assert norms(program) == norms(fold_batch_norm(program).program) == 3


def test_what_the_norm_knew_of_the_output_is_kept() -> None:
    program = program_of("vgg")
    moments = fold_batch_norm(program).moments["features.0.weight"]
    assert torch.equal(moments.mean, program.tensors["features.1.bias"])
    assert torch.equal(moments.spread, program.tensors["features.1.weight"].abs())


class Shared(nn.Module):
    """One convolution used twice, each time with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv(torch.relu(self.norm1(self.conv(x)))))


def test_a_shared_layer_keeps_its_norms() -> None:
    program = load(trained_looking(Shared()), example_inputs=(example(),))
    folded = fold_batch_norm(program).program
    assert norms(folded) == 2
    assert torch.equal(folded(example()), program(example()))


class TinyVariance(nn.Module):
    """Where ε decides: folding without it would be far off."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))


def test_epsilon_stays_inside_the_square_root() -> None:
    network = TinyVariance()
    network.norm.running_var.fill_(1e-6)
    program = load(network.eval(), input_shapes=[(1, 4)])
    folded = fold_batch_norm(program).program
    x = torch.randn(7, 4)
    assert norms(folded) == 0
    assert relative_error(folded(x), program(x)) <= 1e-5
