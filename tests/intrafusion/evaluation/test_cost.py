"""Multiply-accumulates against what they are by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from intrafusion import load
from intrafusion.evaluation import macs


class Function(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "bmm":
                return torch.bmm(x, x.transpose(1, 2))
            case "matmul":
                return x[:, None] @ x[:, None].transpose(-1, -2)
            case "attention":
                return functional.scaled_dot_product_attention(x, x, x)
        return x * 2


@pytest.mark.parametrize(
    ("network", "shape", "expected"),
    [
        (nn.Linear(5, 7), (5,), 35),
        (nn.Linear(5, 7), (4, 5), 4 * 35),
        (nn.Conv2d(3, 8, 3, padding=1), (3, 6, 6), 36 * 8 * 3 * 9),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 6, 6), 36 * 8 * 9),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), (4, 6, 6), 9 * 8 * 2 * 9),
        (nn.Conv1d(2, 3, 5), (2, 9), 5 * 3 * 2 * 5),
        (nn.ConvTranspose2d(3, 8, 2, stride=2), (3, 4, 4), 16 * 3 * 8 * 4),
        (nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.BatchNorm1d(5)), (5,), 25),
        (nn.GRU(3, 5, batch_first=True), (6, 3), 6 * 3 * 5 * (3 + 5)),
        (nn.LSTM(3, 5, num_layers=2, bidirectional=True), (1, 3), 2 * 20 * (3 + 5 + 10 + 5)),
        (nn.RNN(3, 5, batch_first=True), (6, 3), 6 * 5 * (3 + 5)),
        (Function("bmm"), (4, 6), 4 * 4 * 6),
        (Function("matmul"), (4, 6), 4 * 4 * 6),
        (Function("attention"), (4, 6), 2 * 4 * 4 * 6),
        (Function("pointwise"), (4, 6), 0),
    ],
    ids=str,
)
def test_macs_of_one_sample(network: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    assert macs(load(network.eval(), input_shapes=[(1, *shape)])) == expected


def test_a_known_network(torchvision: object) -> None:
    from torchvision.models import resnet18

    program = load(resnet18().eval(), input_shapes=[(1, 3, 224, 224)])
    # 1.814 GMACs is the figure in torchvision's own table of models.
    assert round(macs(program) / 1e9, 3) == 1.814
    assert program.parameter_count == 11_689_512
