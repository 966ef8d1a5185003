"""Attention loses channels of every head, or whole heads."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from intrafusion import CompressionSpec, compress, load
from intrafusion.channels import analyse, remove
from tests.intrafusion.programs import duplicated, halves, relative_error, without_copies, zeroed

HEADS, WIDTH = 4, 6


class Attention(nn.Module):
    """q, k and v from one layer or from three; written out, or as one operation."""

    def __init__(self, packed: bool, fused: bool) -> None:
        super().__init__()
        self.packed, self.fused = packed, fused
        size = HEADS * WIDTH
        self.embed = nn.Linear(5, 10)
        self.qkv = nn.Linear(10, 3 * size)
        self.q, self.k, self.v = (nn.Linear(10, size) for _ in range(3))
        self.project = nn.Linear(size, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.embed(x))
        batch, length, _ = x.shape
        if self.packed:
            qkv = self.qkv(x).reshape(batch, length, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
        else:
            q, k, v = (
                layer(x).view(batch, length, HEADS, WIDTH).transpose(1, 2)
                for layer in (self.q, self.k, self.v)
            )
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) * WIDTH**-0.5).softmax(-1) @ v
        return self.project(y.transpose(1, 2).reshape(batch, length, HEADS * WIDTH))


@pytest.mark.parametrize("whole_heads", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_zero_then_remove(packed: bool, fused: bool, whole_heads: bool) -> None:
    torch.manual_seed(0)
    program = load(Attention(packed, fused).eval(), input_shapes=[(1, 9, 5)])
    analysis = analyse(program, whole_heads=whole_heads)
    sizes = sorted(len(group) for group in analysis.groups)
    if whole_heads:
        assert sizes == [HEADS, 10]
    elif packed:
        assert sizes == [WIDTH, 10]
    else:
        assert sizes == [WIDTH, WIDTH, 10]
    kept = halves(analysis)
    smaller, reference = remove(analysis, kept).program, zeroed(analysis, kept)
    for batch in (1, 2, 5):
        x = torch.randn(batch, 9, 5)
        assert relative_error(smaller(x), reference(x)) <= 1e-5


class Masked(nn.Module):
    """Something is added to the logits of every head: what was learned, or what is written out."""

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.learned, size = learned, HEADS * WIDTH
        self.q, self.k, self.v = (nn.Linear(5, size) for _ in range(3))
        self.bias = nn.Parameter(torch.randn(1, HEADS, 9, 9))
        self.project = nn.Linear(size, 7)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(len(x), 9, HEADS, WIDTH).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        mask = self.bias if self.learned else torch.arange(4.0 * 81).view(1, HEADS, 9, 9) / 81
        y = functional.scaled_dot_product_attention(q, k, v, mask)
        return self.project(y.transpose(1, 2).reshape(len(x), 9, HEADS * WIDTH))


@pytest.mark.parametrize(
    ("learned", "whole_heads", "sizes"),
    [(True, True, [HEADS]), (False, True, []), (True, False, [WIDTH, WIDTH])],
)
def test_a_mask_goes_with_its_heads(learned: bool, whole_heads: bool, sizes: list[int]) -> None:
    torch.manual_seed(0)
    program = load(Masked(learned).eval(), input_shapes=[(1, 9, 5)])
    analysis = analyse(program, whole_heads=whole_heads)
    assert [len(group) for group in analysis.groups] == sizes
    kept = halves(analysis)
    smaller, reference = remove(analysis, kept).program, zeroed(analysis, kept)
    x = torch.randn(3, 9, 5)
    assert relative_error(smaller(x), reference(x)) <= 1e-5


@pytest.mark.parametrize("producers", ["mean", "keep"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_fusing_exact_copies_leaves_the_logits(
    packed: bool, fused: bool, producers: Literal["mean", "keep"]
) -> None:
    """c copies are c equal terms of q·k, and one unit has to make up for them."""
    torch.manual_seed(0)
    network = load(Attention(packed, fused).eval(), input_shapes=[(1, 9, 5)])
    program = duplicated(analyse(network))
    smaller = without_copies(analyse(program), producers)
    assert smaller.parameter_count < program.parameter_count
    x = torch.randn(3, 9, 5)
    assert relative_error(smaller(x), program(x)) <= 1e-5


def test_the_spec_chooses() -> None:
    program = load(Attention(True, True).eval(), input_shapes=[(1, 9, 5)])
    # How much each group loses otherwise depends on the weights, and on samples that are made.
    spec = CompressionSpec(allocation="uniform", compensation="none", include=["qkv.*"])
    by_head = compress(program, spec.model_copy(update={"attention": "heads"}))
    by_width = compress(program, spec.model_copy(update={"attention": "width"}))
    assert [(g.units, g.kept) for g in by_head.report.groups if g.kept < g.units] == [
        (10, 5),
        (4, 2),
    ]
    assert [(g.units, g.kept) for g in by_width.report.groups if g.kept < g.units] == [
        (10, 5),
        (6, 3),
    ]


def test_convolutions_have_no_heads() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(2))
    program = load(network.eval(), input_shapes=[(1, 3, 7, 7)])
    by_head, by_channel = (analyse(program, whole_heads=heads) for heads in (True, False))
    assert [len(g) for g in by_head.groups] == [len(g) for g in by_channel.groups] == [8]
