"""Computed weights become constants under the names their modules know them by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from intrafusion import CompressionSpec, compress, load
from intrafusion.channels import analyse


class Normed(nn.Module):
    def __init__(self, norm: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.conv1 = norm(nn.Conv2d(3, 8, 3, padding=1))
        self.conv2 = norm(nn.Conv2d(8, 8, 3, padding=1))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv2(torch.relu(self.conv1(x)))).mean((2, 3)))


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return functional.conv2d(x, weight, self.bias, padding=1)


def standardised(conv: nn.Module) -> nn.Module:
    assert isinstance(conv, nn.Conv2d)
    return Standardised(conv.in_channels, conv.out_channels, 3)


NORMS = [parametrizations.weight_norm, parametrizations.spectral_norm, standardised]


@pytest.mark.parametrize("form", ["module", "traced"])
@pytest.mark.parametrize("norm", NORMS)
def test_computed_weights_are_pruned_like_any_other(
    norm: Callable[[nn.Module], nn.Module], form: str
) -> None:
    torch.manual_seed(0)
    network: nn.Module = Normed(norm).eval()
    expected = network(torch.ones(3, 3, 8, 8))
    if form == "traced":
        network = torch.jit.trace(network, torch.randn(2, 3, 8, 8))
    program = load(network, input_shapes=[(1, 3, 8, 8)])
    torch.testing.assert_close(program(torch.ones(3, 3, 8, 8)), expected)
    assert {"conv1.weight", "conv2.weight"} <= program.trainable
    assert not any("original" in name for name in program.tensors)
    assert [group.name for group in analyse(program).groups] == ["conv1.weight", "conv2.weight"]
    assert compress(program, CompressionSpec(sparsity=0.5)).program.parameter_count < 500


def test_a_rearranged_weight_keeps_its_name() -> None:
    class Tabled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(2, 6))
            self.linear = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x + self.table[0])

    program = load(Tabled().eval(), input_shapes=[(1, 6)])
    assert "table" in program.trainable
    assert program.notes == ()


def test_what_was_computed_is_noted() -> None:
    program = load(Normed(parametrizations.weight_norm).eval(), input_shapes=[(1, 3, 8, 8)])
    assert any("conv1.weight was computed once" in note for note in program.notes)


def test_a_weight_computed_with_a_range_of_numbers() -> None:
    class Scaled(nn.Module):
        """As DINOv2's positions, which it computes anew for the size of the image."""

        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.randn(8))
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) + self.position * torch.arange(8))

    network = Scaled().eval()
    program = load(network, input_shapes=[(1, 3)])
    torch.testing.assert_close(program.tensors["position"], network.position * torch.arange(8))
    (group,) = analyse(program).groups
    assert len(group) == 8
