"""The reference is what a network made by hand with fewer channels computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import intrafusion
from benchmarks.zoo.reference import error, masked_outputs, random_half
from intrafusion.channels import analyse, remove

KEPT = [0, 2, 3, 7]


class Between(nn.Module):
    """Eight channels, something that counts them, and three outputs."""

    def __init__(self, norm: nn.Module | None = None, centred: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 1)
        self.norm = norm
        self.last = nn.Conv2d(8, 3, 1)
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.norm is not None:
            x = self.norm(x)
        if self.centred:
            x = x - x.mean(1, keepdim=True)
        return self.last(x)


class LayerNormOfChannels(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def small_by_hand(network: Between, norm: nn.Module | None) -> Between:
    """`network` with the channels `KEPT`, copied one by one."""
    small = Between(norm, network.centred)
    small.first, small.last = nn.Conv2d(2, len(KEPT), 1), nn.Conv2d(len(KEPT), 3, 1)
    with torch.no_grad():
        small.first.weight.copy_(network.first.weight[KEPT])
        small.first.bias.copy_(network.first.bias[KEPT])
        small.last.weight.copy_(network.last.weight[:, KEPT])
        small.last.bias.copy_(network.last.bias)
        if network.norm is not None:
            small.norm.weight.copy_(network.norm.weight[KEPT])
            small.norm.bias.copy_(network.norm.bias[KEPT])
    return small


@pytest.mark.parametrize("case", ["plain", "layer norm", "group norm", "mean"])
def test_masked_outputs_are_those_of_a_smaller_network(case: str) -> None:
    torch.manual_seed(0)
    norms: dict[str, tuple[nn.Module, nn.Module]] = {
        "layer norm": (LayerNormOfChannels(8), LayerNormOfChannels(len(KEPT))),
        "group norm": (nn.GroupNorm(1, 8), nn.GroupNorm(1, len(KEPT))),
    }
    norm, small_norm = norms.get(case, (None, None))
    if norm is not None:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    network = Between(norm, centred=case == "mean")
    inputs = (torch.randn(5, 2, 4, 4),)
    analysis = analyse(intrafusion.load(network, example_inputs=inputs))
    (group,) = analysis.groups
    found = masked_outputs(analysis, {group: torch.tensor(KEPT)}, inputs)
    with torch.no_grad():
        expected = (small_by_hand(network, small_norm)(*inputs),)
    assert error(found, expected) < 1e-5


def test_another_half_is_another_network() -> None:
    torch.manual_seed(0)
    network, inputs = Between(LayerNormOfChannels(8)), (torch.randn(2, 2, 4, 4),)
    analysis = analyse(intrafusion.load(network, example_inputs=inputs))
    first, second = random_half(analysis, seed=0), random_half(analysis, seed=1)
    found = remove(analysis, first).program.outputs(*inputs)
    assert error(found, masked_outputs(analysis, first, inputs)) < 1e-5
    assert error(found, masked_outputs(analysis, second, inputs)) > 1e-2


def test_error_keeps_nan_and_refuses_other_shapes() -> None:
    good, bad = torch.ones(2), torch.tensor([1.0, torch.nan])
    assert error([good, good], [good, 2 * good]) == 0.5
    assert not error([bad, good], [good, good]) <= 1
    with pytest.raises(ValueError, match=r"\[2\] instead of \[3\]"):
        error([good], [torch.ones(3)])
