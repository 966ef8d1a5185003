"""Activations alive at once, counted by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from intrafusion import Program, load
from intrafusion.evaluation.memory import peak_activation_bytes


def peak(module: nn.Module, *shape: int) -> int:
    return peak_activation_bytes(load(module.eval(), input_shapes=[(1, *shape)]))


def test_a_layer_needs_what_it_reads_and_what_it_makes() -> None:
    assert peak(nn.Linear(10, 30), 10) == 4 * (10 + 30)
    # 10 → 30 → 20 → 5: the widest pair of neighbours, not the sum of all.
    chain = nn.Sequential(nn.Linear(10, 30), nn.Linear(30, 20), nn.Linear(20, 5))
    assert peak(chain, 10) == 4 * (30 + 20)


def test_what_is_read_again_stays() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(10, 30), nn.Linear(30, 10)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(self.up(x))

    assert peak(Skip(), 10) == 4 * (10 + 30 + 10)


def test_views_share_what_they_are_views_of() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).unsqueeze(1).transpose(1, 2)

    assert peak(Views(), 4, 5) == 4 * 20


def test_it_is_per_sample_and_in_the_networks_precision() -> None:
    half = load(
        nn.Linear(10, 30).half().eval(), example_inputs=torch.ones(7, 10, dtype=torch.float16)
    )
    assert isinstance(half, Program)
    assert peak_activation_bytes(half) == 2 * (10 + 30)
