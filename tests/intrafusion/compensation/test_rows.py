"""Rows are exactly what a layer reads: the layer's weights on them give its output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from intrafusion import load
from intrafusion.compensation.layers import layer_of
from intrafusion.compensation.layers.affine import Affine
from intrafusion.compensation.rows import Window, output_rows, pick, window_rows
from intrafusion.program import Program
from intrafusion.program.nodes import arguments, count_uses


def only_layer(program: Program) -> Affine:
    uses = count_uses(program.graph)
    (layer,) = (found for node in program.graph.nodes if (found := layer_of(node, uses)))
    assert isinstance(layer, Affine)
    return layer


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Conv2d(3, 4, 3, padding=1), (3, 9, 7)),
        (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (3, 9, 7)),
        (nn.Conv2d(3, 4, 1, stride=2, bias=False), (3, 8, 8)),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 6, 6)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 6, 6)),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), (4, 6, 6)),
        (nn.Conv1d(3, 4, 5, padding=2, dilation=2), (3, 12)),
        (nn.Conv3d(2, 3, 2, padding=1), (2, 4, 5, 3)),
        (nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), (3, 5, 4)),
        (nn.ConvTranspose2d(3, 4, (2, 3), stride=(3, 1), dilation=(1, 2)), (3, 5, 4)),
        (nn.ConvTranspose1d(3, 4, 4, stride=2, bias=False), (3, 9)),
        (nn.Linear(6, 4), (6,)),
        (nn.Linear(6, 4), (5, 6)),
    ],
)
def test_rows_reproduce_the_layer(network: nn.Module, shape: tuple[int, ...]) -> None:
    program = load(network.eval(), input_shapes=[(1, *shape)])
    layer = only_layer(program)
    x = torch.randn(4, *shape)
    out = program(x)
    picks = pick(out.shape, layer.channel_dim, 37, torch.Generator().manual_seed(0))
    weight = program.tensors[layer.weight]
    if layer.convolves:
        window = Window.of(arguments(layer.node), weight.shape[2:])
        read = window_rows(x, window, picks).reshape(len(picks.flat), layer.groups, -1)
    else:
        read = output_rows(x, -1, picks)[:, None]
    matrix = layer.matrix(weight, layer.groups)
    torch.testing.assert_close(layer.tensor(matrix, weight), weight)
    bias = 0 if layer.bias is None else program.tensors[layer.bias]
    torch.testing.assert_close(
        torch.einsum("rgd,god->rgo", read, matrix).flatten(1) + bias,
        output_rows(out, layer.channel_dim, picks),
    )


def test_picks_are_distinct_positions_in_order() -> None:
    picks = pick((5, 3, 4, 4), 1, 60, torch.Generator().manual_seed(0))
    assert len(picks.flat.unique()) == 60
    assert torch.equal(picks.flat, picks.flat.sort().values)
    assert len(pick((5, 3, 4, 4), 1, 1000, torch.Generator()).flat) == 80
