"""Rows are exactly what a layer reads: the layer's weights on them give its output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intrafusion import load
from intrafusion.compensation.layers import input_rows, layer_of, output_rows, pick
from intrafusion.program import Program
from intrafusion.program.nodes import count_uses


def only_layer(program: Program):  # type: ignore[no-untyped-def]
    uses = count_uses(program.graph)
    (layer,) = (found for node in program.graph.nodes if (found := layer_of(node, uses)))
    return layer


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Conv2d(3, 4, 3, padding=1), (3, 9, 7)),
        (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (3, 9, 7)),
        (nn.Conv2d(3, 4, 1, stride=2, bias=False), (3, 8, 8)),
        (nn.Conv1d(3, 4, 5, padding=2, dilation=2), (3, 12)),
        (nn.Conv3d(2, 3, 2, padding=1), (2, 4, 5, 3)),
        (nn.Linear(6, 4), (6,)),
        (nn.Linear(6, 4), (5, 6)),
    ],
)
def test_dense_rows_reproduce_the_layer(network: nn.Module, shape: tuple[int, ...]) -> None:
    program = load(network.eval(), input_shapes=[(1, *shape)])
    layer = only_layer(program)
    x = torch.randn(4, *shape)
    out = program(x)
    picks = pick(out.shape, layer.channel_dim, 37, torch.Generator().manual_seed(0))
    weight = program.tensors[layer.weight]
    read = input_rows(layer, x, weight.shape[2:], picks).flatten(1)
    bias = 0 if layer.bias is None else program.tensors[layer.bias]
    torch.testing.assert_close(
        read @ weight.flatten(1).T + bias, output_rows(out, layer.channel_dim, picks)
    )


def test_depthwise_rows_reproduce_the_layer() -> None:
    program = load(nn.Conv2d(4, 4, 3, padding=1, groups=4).eval(), input_shapes=[(1, 4, 6, 6)])
    layer = only_layer(program)
    x = torch.randn(3, 4, 6, 6)
    picks = pick((3, 4, 6, 6), 1, 50, torch.Generator().manual_seed(0))
    weight = program.tensors[layer.weight]
    read = input_rows(layer, x, weight.shape[2:], picks)
    out = torch.einsum("rcij,cij->rc", read, weight[:, 0]) + program.tensors["bias"]
    torch.testing.assert_close(out, output_rows(program(x), 1, picks))


def test_picks_are_distinct_positions_and_know_their_sample() -> None:
    picks = pick((5, 3, 4, 4), 1, 60, torch.Generator().manual_seed(0))
    assert len(picks.flat.unique()) == 60
    assert picks.sample.tolist() == [int(p) // 16 for p in picks.flat]
    assert len(pick((5, 3, 4, 4), 1, 1000, torch.Generator()).flat) == 80
