"""What stands beside the heads of an attention: angles, norms of queries and keys, masks of zeros.

All heads share them, and yet heads go one by one where heads are what goes.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.reference import masked_outputs, random_half
from intrafusion import load
from intrafusion.channels import analyse, remove
from tests.intrafusion.programs import relative_error

HEADS, WIDTH = 4, 6


class Attention(nn.Module):
    """Four heads of six, projected from and to eight channels."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, HEADS * WIDTH) for _ in range(3))
        self.out = nn.Linear(HEADS * WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(layer(x)) for layer in (self.q, self.k, self.v))
        scores = self.turned(q) @ self.turned(k).transpose(-1, -2)
        y = self.masked(scores).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, WIDTH)).transpose(1, 2)

    def turned(self, x: Tensor) -> Tensor:
        return x

    def masked(self, scores: Tensor) -> Tensor:
        return scores


class Rotary(Attention):
    """By angles for each channel of a head; `turning` of its six channels turn."""

    def __init__(self, turning: int = WIDTH) -> None:
        super().__init__()
        self.register_buffer("angles", torch.rand(turning // 2))

    def turned(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[-2], dtype=torch.float32)
        angles = places[:, None] * torch.cat([self.angles, self.angles])
        some, rest = x[..., : angles.shape[-1]], x[..., angles.shape[-1] :]
        first, second = some.chunk(2, -1)
        turned = some * angles.cos() + torch.cat([-second, first], -1) * angles.sin()
        return torch.cat([turned, rest], -1)


class Normed(Attention):
    """RMS norm of the queries and of the keys within each head, with a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def turned(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * self.scale


class UnitLength(Attention):
    """Queries and keys of length one, and a temperature for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.rand(HEADS, 1, 1) + 4)

    def turned(self, x: Tensor) -> Tensor:
        return functional.normalize(x, dim=-1)

    def masked(self, scores: Tensor) -> Tensor:
        return scores * self.temperature


class WrittenMask(Attention):
    """A mask that is made anew, with the number of heads written out, as in T5."""

    def masked(self, scores: Tensor) -> Tensor:
        later = torch.ones(scores.shape[-2:]).triu(1).bool()
        zeros = torch.zeros(1, HEADS, scores.shape[-2], scores.shape[-1])
        return scores + torch.where(later, -10.0, zeros)


CASES = [
    (Attention, True, {"heads": 4}),
    (Rotary, True, {"heads": 4}),
    (lambda: Rotary(4), True, {"heads": 4}),
    (Normed, True, {"heads": 4}),
    (UnitLength, True, {"heads": 4}),
    (WrittenMask, True, {"heads": 4}),
    (Attention, False, {"keys": 6, "values": 6}),
    (Rotary, False, {"keys": 3, "values": 6}),
    (lambda: Rotary(4), False, {"turning": 2, "keys": 2, "values": 6}),
    (Normed, False, {"keys": 6, "values": 6}),
    (UnitLength, False, {"values": 6}),
    (WrittenMask, False, {"keys": 6, "values": 6}),
]


@pytest.mark.parametrize(("make", "whole_heads", "sizes"), CASES)
def test_zero_then_remove(make: type[Attention], whole_heads: bool, sizes: dict[str, int]) -> None:
    torch.manual_seed(0)
    program = load(make().eval(), input_shapes=[(2, 7, 8)])
    analysis = analyse(program, whole_heads=whole_heads)
    assert [len(group) for group in analysis.groups] == list(sizes.values())
    kept = random_half(analysis)
    smaller = remove(analysis, kept).program
    for batch in (1, 2, 5):
        x = torch.randn(batch, 7, 8)
        (wanted,) = masked_outputs(analysis, kept, (x,))
        assert relative_error(smaller(x), wanted) <= 1e-5


def test_what_all_heads_share_stays_and_says_so() -> None:
    program = load(Rotary().eval(), input_shapes=[(2, 7, 8)])
    reasons = {f.tensor: f.reason for f in analyse(program, whole_heads=True).frozen}
    assert reasons["angles"] == "all heads of an attention share its channels"
