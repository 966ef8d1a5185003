"""What torch's layers say of their sizes, against what torch itself would say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from intrafusion import ErrorCode, IntraFusionError
from intrafusion.layer_sizes import follow_parameters

PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], dict[str, int]]] = {
    "conv1d": (lambda: nn.Conv1d(8, 6, 3), lambda: nn.Conv1d(4, 3, 3), {}),
    "conv3d": (lambda: nn.Conv3d(8, 6, 3), lambda: nn.Conv3d(4, 3, 3), {}),
    "depthwise": (
        lambda: nn.Conv2d(8, 16, 3, groups=8),
        lambda: nn.Conv2d(5, 10, 3, groups=5),
        {"at.weight": 5},
    ),
    "grouped": (
        lambda: nn.Conv2d(8, 16, 3, groups=4),
        lambda: nn.Conv2d(4, 8, 3, groups=4),
        {"at.weight": 4},
    ),
    "transposed": (
        lambda: nn.ConvTranspose2d(8, 16, 3, groups=2),
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
        {"at.weight": 2},
    ),
    "linear": (lambda: nn.Linear(8, 6), lambda: nn.Linear(4, 3), {}),
    "bilinear": (lambda: nn.Bilinear(8, 6, 4), lambda: nn.Bilinear(4, 3, 2), {}),
    "batch_norm": (lambda: nn.BatchNorm1d(8), lambda: nn.BatchNorm1d(3), {}),
    "plain_batch_norm": (
        lambda: nn.BatchNorm2d(8, affine=False),
        lambda: nn.BatchNorm2d(3, affine=False),
        {},
    ),
    "instance_norm": (
        lambda: nn.InstanceNorm2d(8, affine=True),
        lambda: nn.InstanceNorm2d(3, affine=True),
        {},
    ),
    "layer_norm": (lambda: nn.LayerNorm(8), lambda: nn.LayerNorm(3), {}),
    "rms_norm": (lambda: nn.RMSNorm(8), lambda: nn.RMSNorm(3), {}),
    "group_norm": (lambda: nn.GroupNorm(4, 8), lambda: nn.GroupNorm(2, 4), {"at.weight": 2}),
    "embedding": (lambda: nn.Embedding(30, 8), lambda: nn.Embedding(30, 3), {}),
    "embedding_bag": (lambda: nn.EmbeddingBag(30, 8), lambda: nn.EmbeddingBag(30, 3), {}),
    "prelu": (lambda: nn.PReLU(8), lambda: nn.PReLU(3), {}),
    "lstm": (
        lambda: nn.LSTM(8, 6, num_layers=2, bidirectional=True),
        lambda: nn.LSTM(4, 3, num_layers=2, bidirectional=True),
        {},
    ),
    "projected_lstm": (
        lambda: nn.LSTM(8, 6, proj_size=2),
        lambda: nn.LSTM(4, 3, proj_size=2),
        {},
    ),
    "gru": (lambda: nn.GRU(8, 6), lambda: nn.GRU(4, 3), {}),
    "rnn": (lambda: nn.RNN(8, 6), lambda: nn.RNN(4, 3), {}),
    "attention": (
        lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.MultiheadAttention(4, 2),
        {},
    ),
    "cross_attention": (
        lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=5),
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=2),
        {},
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_layer_says_what_a_new_one_of_its_sizes_says(name: str) -> None:
    make, make_small, groups = PAIRS[name]
    layer, small = make(), make_small()
    with torch.no_grad():
        tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        for key, tensor in {
            **dict(small.named_parameters()),
            **dict(small.named_buffers()),
        }.items():
            tensors[key].data = tensor.clone()
    for part_name, part in layer.named_modules():
        follow_parameters(part, f"at.{part_name}" if part_name else "at", groups)
    assert repr(layer) == repr(small)
    for key, value in vars(small).items():
        if isinstance(value, int | tuple):
            assert vars(layer)[key] == value, key


def test_recurrent_layers_of_several_widths() -> None:
    layer = nn.GRU(8, 6, num_layers=2)
    layer.weight_hh_l1.data = torch.zeros(9, 3)
    with pytest.raises(IntraFusionError, match=r"at is a GRU.*\[3, 6\] hidden units") as caught:
        follow_parameters(layer, "at", {})
    assert caught.value.code is ErrorCode.MODULE_NOT_RESIZABLE


def test_attention_narrower_inside() -> None:
    layer = nn.MultiheadAttention(8, 2)
    layer.out_proj.weight.data = torch.zeros(8, 4)
    with pytest.raises(IntraFusionError, match="heads are 4 wide together, its outputs 8"):
        follow_parameters(layer, "at", {})
