"""What is easily done wrong, one network each: what goes, and that removing it is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.reference import masked_outputs, random_half
from intrafusion import load
from intrafusion.channels import analyse, remove
from tests.intrafusion.programs import relative_error

Forward = Callable[[nn.Module, Tensor], Tensor]


class Built(nn.Module):
    """A first convolution of 8 channels, something in the middle, and a head on the means."""

    def __init__(self, middle: Forward, width: int, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(width, 3)
        self.middle = middle
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self, torch.tanh(self.first(x))).mean((2, 3)))


class Standardised(nn.Conv2d):
    """A convolution that standardises its weight in every forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.std((1, 2, 3), keepdim=True)
        return functional.conv2d(x, (self.weight - mean) / spread, self.bias, padding=1)


class Scaled(nn.Module):
    """A buffer with a value per channel, and one that is as large but means positions."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(8, 1, 1) + 0.5)
        self.register_buffer("order", torch.tensor([3, 1, 0, 2, 7, 6, 5, 4]))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale)[:, self.order]


def twice(m: nn.Module, x: Tensor) -> Tensor:
    return m.shared(torch.relu(m.shared(x)))


def in_place(m: nn.Module, x: Tensor) -> Tensor:
    y = m.layer(x)
    y += x
    y.mul_(0.5).relu_()
    y[:, :2] *= 2
    return y


def spatial_attention(m: nn.Module, x: Tensor) -> Tensor:
    where = m.layer(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1))
    return x * torch.sigmoid(where)


CASES: dict[str, tuple[Built, list[int]]] = {
    "strided slices": (
        Built(
            lambda m, x: torch.cat([x[:, ::2], m.layer(x[:, 1::2])], 1), 9, layer=nn.Conv2d(4, 5, 1)
        ),
        [4, 4, 5],
    ),
    "a slice from the second channel on": (Built(lambda m, x: x[:, 1:], 7), [1, 7]),
    "einsum": (
        Built(
            lambda m, x: torch.einsum("bchw,oc->bohw", x, m.w), 6, w=nn.Parameter(torch.randn(6, 8))
        ),
        [8, 6],
    ),
    "index_select with a constant": (
        Built(lambda m, x: x.index_select(1, torch.tensor([6, 0, 3, 1])), 4),
        [4, 4],
    ),
    "buffers along the channels": (Built(lambda m, x: m.scaled(x), 8, scaled=Scaled()), [8]),
    "depthwise with two filters a channel": (
        Built(lambda m, x: m.layer(x), 16, layer=nn.Conv2d(8, 16, 3, padding=1, groups=8)),
        [8],
    ),
    "grouped transposed convolution": (
        Built(lambda m, x: m.layer(x), 12, layer=nn.ConvTranspose2d(8, 12, 2, 2, groups=2)),
        [4, 6],
    ),
    "linear on a bare parameter": (
        Built(
            lambda m, x: functional.linear(x.movedim(1, -1), m.w).movedim(-1, 1),
            6,
            w=nn.Parameter(torch.randn(6, 8)),
        ),
        [8, 6],
    ),
    "a shared layer": (Built(twice, 8, shared=nn.Conv2d(8, 8, 3, padding=1)), [8]),
    "in-place operations": (Built(in_place, 8, layer=nn.Conv2d(8, 8, 1)), [2, 6]),
    "weight standardisation": (
        Built(lambda m, x: m.layer(x), 6, layer=Standardised(8, 6, 3)),
        [8, 6],
    ),
    "mean and maximum over channels": (
        Built(spatial_attention, 8, layer=nn.Conv2d(2, 1, 3, padding=1)),
        [8],
    ),
    "gated halves": (Built(lambda m, x: functional.glu(x, 1), 4), [4]),
    "repeated channels": (Built(lambda m, x: x.repeat(1, 2, 1, 1), 16), [8]),
    "variance over channels": (
        Built(lambda m, x: x / (x.var(1, keepdim=True, unbiased=False) + 1).sqrt(), 8),
        [8],
    ),
    "the size of an activation": (
        Built(
            lambda m, x: x + m.p.expand(x.shape[0], -1, -1, -1),
            8,
            p=nn.Parameter(torch.ones(1, 8, 1, 1)),
        ),
        [8],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_zero_then_remove(name: str) -> None:
    torch.manual_seed(0)
    network, sizes = CASES[name]
    analysis = analyse(load(network.eval(), input_shapes=[(1, 3, 6, 6)]))
    assert sorted(len(group) for group in analysis.groups) == sorted(sizes)
    kept = random_half(analysis)
    smaller = remove(analysis, kept).program
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 6, 6)
        (wanted,) = masked_outputs(analysis, kept, (x,))
        assert relative_error(smaller(x), wanted) <= 1e-5


@pytest.mark.parametrize(
    ("name", "said"),
    [("mean and maximum over channels", "a maximum"), ("variance over channels", "a variance")],
)
def test_a_statistic_over_channels_is_said(name: str, said: str) -> None:
    network, _ = CASES[name]
    (group,) = analyse(load(network.eval(), input_shapes=[(1, 3, 6, 6)])).groups
    assert any(warning.startswith(said) for warning in group.warnings)


def test_where_the_maximum_stands_is_a_channels_number() -> None:
    network = Built(lambda m, x: x + x.max(1, keepdim=True).indices, 8)
    analysis = analyse(load(network.eval(), input_shapes=[(1, 3, 6, 6)]))
    assert not analysis.groups
    assert any(frozen.op == "max" for frozen in analysis.frozen)
