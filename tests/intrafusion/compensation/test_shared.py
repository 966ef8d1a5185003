"""Layers whose weight is used in several places."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, fx, nn

from intrafusion import CompressionReport, CompressionSpec, Dataset, compress, load
from intrafusion.compensation import lockstep
from intrafusion.compensation.layers import Layer, affine, layers_of
from intrafusion.compensation.layers.shared import Shared

SAMPLES, STEPS, READ = 300, 5, 12


class Cell(nn.Module):
    """A cell called step by step, whose first step reads zeros and so only a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.cell = nn.Linear(READ, 24), nn.LSTMCell(24, 32)
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 32)
        for step in range(STEPS):
            h, c = self.cell(self.rows(x[:, step]).relu(), (h, c))
        return self.head(h)


class Loop(nn.Module):
    """A block that is gone through again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(READ, 32), nn.Linear(32, 32), nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x[:, 0]).relu()
        for _ in range(STEPS):
            h = h + self.block(h).relu()
        return self.head(h)


class Pyramid(nn.Module):
    """One head on two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.tower, self.head = nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.first(x).relu()
        coarse = self.second(fine).relu()
        return self.head(self.tower(fine).relu()), self.head(self.tower(coarse).relu())


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "cell": (Cell, (STEPS, READ), 3),
    "loop": (Loop, (STEPS, READ), 2),
    "pyramid": (Pyramid, (3, 12, 12), 3),
}
"""The network, the shape of a sample, and how many layers there are to refit."""


def compressed(name: str) -> tuple[float, CompressionReport]:
    """How far the outputs on other samples are from the original's, and the report."""
    make, shape, _ = CASES[name]
    torch.manual_seed(0)
    program = load(make().eval(), input_shapes=[(1, *shape)])
    given, others = torch.randn(SAMPLES, *shape), torch.randn(100, *shape)
    made = compress(program, CompressionSpec(joint_steps=0), Dataset((given,)))
    errors = [
        float((after - before).norm() / (before - before.mean(0)).norm())
        for before, after in zip(program.outputs(others), made.program.outputs(others), strict=True)
    ]
    return max(errors), made.report


def own_alone(graph: fx.Graph) -> Iterator[Layer]:
    return (layer for layer in layers_of(graph) if not isinstance(layer, Shared))


@pytest.mark.parametrize("name", CASES)
def test_they_are_refitted_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, report = compressed(name)
    assert report.compensation.layers == CASES[name][2]
    monkeypatch.setattr(lockstep, "layers_of", own_alone)
    without, _ = compressed(name)
    assert error < 0.95 * without


def test_wide_ones_are_refitted_by_one_matrix_for_all_taps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(lockstep, "layers_of", own_alone)
        without, _ = compressed("pyramid")
    monkeypatch.setattr(affine, "WIDE", 10)
    assert compressed("pyramid")[0] < 0.9 * without


@pytest.mark.parametrize("name", CASES)
def test_samples_in_parts_serve_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = compressed(name)
    monkeypatch.setattr(lockstep, "samples_at_a_time", lambda *_: 64)
    assert compressed(name)[0] == pytest.approx(whole, rel=0.15)


def test_a_weight_that_something_else_reads_is_left_alone() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.hidden = nn.Embedding(20, 16), nn.Linear(16, 16)

        def forward(self, tokens: Tensor) -> Tensor:
            values = self.hidden(self.table(tokens)).relu()
            return nn.functional.linear(values, self.table.weight)

    program = load(Tied().eval(), example_inputs=(torch.randint(20, (2, 5)),))
    assert [layer.tensors[0] for layer in layers_of(program.graph)] == ["hidden.weight"]
