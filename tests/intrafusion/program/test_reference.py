"""Reference outputs: inputs that anyone can make again, and what counts as the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion import load
from intrafusion.program.reference import Reference, ReferenceInput, reference_of


def test_inputs_are_the_same_numbers_everywhere() -> None:
    x = ReferenceInput(shape=(2, 2), dtype="float64", high=0).tensor()
    golden = 0.6180339887498949
    expected = [4 * (k * golden % 1) - 2 for k in range(1, 5)]
    torch.testing.assert_close(x.flatten().tolist(), expected)


def test_integers_stay_in_the_range_of_the_examples() -> None:
    class Look(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 3)

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            return self.embed(tokens) * mask[..., None]

    examples = torch.tensor([[0, 6, 3, 1]] * 2), torch.ones(2, 4, dtype=torch.bool)
    reference = reference_of(load(Look(), example_inputs=examples))
    tokens, mask = (i.tensor() for i in reference.inputs)
    assert set(tokens.flatten().tolist()) <= set(range(7))
    assert len(set(tokens.flatten().tolist())) > 3
    assert set(mask.flatten().tolist()) == {False, True}


@pytest.mark.parametrize("size", [3, 300])
def test_agreement(size: int) -> None:
    program = load(nn.Linear(4, size), input_shapes=[(1, 4)])
    reference = Reference.model_validate_json(reference_of(program).model_dump_json())
    (x,) = (i.tensor() for i in reference.inputs)
    (y,) = program.outputs(x)
    assert len(reference.outputs[0].values) == min(256, 2 * size)
    assert reference.agrees([y], 1e-6)
    assert reference.agrees([y + 1e-4], 1e-3)
    assert not reference.agrees([y + 0.1], 1e-3)
    assert not reference.agrees([y[:, 1:]], 1e-3)
    assert not reference.agrees([y, y], 1e-3)


def test_network_without_finite_outputs() -> None:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.log()

    program = load(Log(), input_shapes=[(1, 4)])
    reference = Reference.model_validate_json(reference_of(program).model_dump_json())
    (x,) = (i.tensor() for i in reference.inputs)
    assert reference.agrees([x.log()], 1e-6)
    assert not reference.agrees([x], 1e-6)
