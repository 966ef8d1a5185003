"""Slices through the loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from intrafusion import CompressionSpec, Dataset, ErrorCode, IntraFusionError, compress, load
from intrafusion.evaluation import loss_landscape
from tests.intrafusion.programs import example, program_of


def test_the_loss_of_a_linear_layer_is_a_parabola_with_the_weights_at_the_bottom() -> None:
    torch.manual_seed(0)
    program = load(nn.Linear(5, 3).eval(), input_shapes=[(1, 5)])
    inputs = torch.randn(200, 5)
    slice_ = loss_landscape(
        program, Dataset((inputs,), targets=program(inputs)), points=7, reach=1.0
    )
    assert slice_.loss.shape == (7, 7)
    assert slice_.steps.tolist() == pytest.approx([-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1])
    assert float(slice_.loss[3, 3]) == pytest.approx(0, abs=1e-12)
    assert slice_.loss.argmin() == 3 * 7 + 3
    for line in (*slice_.loss, *slice_.loss.T):
        bends = line.diff().diff()
        assert float((bends - bends.mean()).abs().max()) < 1e-4 * float(bends.mean())
        assert float(bends.mean()) > 0


@pytest.mark.parametrize("name", ["vgg", "resnet"])
def test_the_middle_is_the_loss_of_the_network_whatever_its_size(name: str) -> None:
    inputs = example(100, seed=4)
    labels = program_of(name)(inputs).argmax(1)
    small = compress(program_of(name), CompressionSpec(compensation="none")).program
    for program in (program_of(name), small):
        slice_ = loss_landscape(program, Dataset((inputs,), labels), points=3, reach=0.5)
        expected = float(cross_entropy(program(inputs), labels))
        assert float(slice_.loss[1, 1]) == pytest.approx(expected, rel=1e-5)
        assert slice_.loss.unique().numel() == 9


def test_the_same_seed_gives_the_same_slice_and_the_program_stays() -> None:
    program = program_of("vgg")
    before = {name: tensor.clone() for name, tensor in program.tensors.items()}
    data = Dataset((example(20),), torch.zeros(20, dtype=torch.int64))
    one, same, other = (
        loss_landscape(program, data, points=3, seed=seed).loss for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(torch.equal(before[name], tensor) for name, tensor in program.tensors.items())


@pytest.mark.parametrize(
    ("points", "labels", "code"),
    [
        (4, torch.zeros(20, dtype=torch.int64), ErrorCode.INVALID_SPEC),
        (3, None, ErrorCode.DATASET_LABELS_INVALID),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    points: int, labels: torch.Tensor | None, code: ErrorCode
) -> None:
    with pytest.raises(IntraFusionError) as caught:
        loss_landscape(program_of("vgg"), Dataset((example(20),), labels), points=points)
    assert caught.value.code is code
