"""Inputs that were described, and inputs that the network takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from intrafusion import ErrorCode, load
from tests.intrafusion.program.forms import refusal


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, image: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        y = self.fc(image) * mask
        return y if bias is None else y + bias


@pytest.fixture(params=["module", "scripted"])
def masked(request: pytest.FixtureRequest, tmp_path: Path) -> nn.Module | Path:
    network = Masked().eval()
    if request.param == "module":
        return network
    torch.jit.script(network).save(tmp_path / "net.pt")
    return tmp_path / "net.pt"


@pytest.mark.parametrize("count", [1, 4])
def test_number_of_inputs(masked: nn.Module | Path, count: int) -> None:
    error = refusal(masked, input_shapes=[(1, 4), (1, 3), (1, 3), (1, 3)][:count])
    assert error.code is ErrorCode.INPUT_COUNT_MISMATCH
    assert "takes 2 to 3 inputs: image, mask, bias (optional)" in error.message
    assert f"{count} {'is' if count == 1 else 'are'} described" in error.message


@pytest.mark.parametrize("count", [2, 3])
def test_optional_inputs_may_be_left_out(masked: nn.Module | Path, count: int) -> None:
    inputs = (torch.randn(5, 4), torch.randn(5, 3), torch.randn(5, 3))[:count]
    program = load(masked, example_inputs=inputs)
    network = torch.jit.load(masked) if isinstance(masked, Path) else masked
    torch.testing.assert_close(program(*inputs), network(*inputs))


class OfDict(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> Tensor:
        return features["a"] + 1


def test_input_that_is_no_tensor(tmp_path: Path) -> None:
    torch.jit.script(OfDict()).save(tmp_path / "net.pt")
    error = refusal(tmp_path / "net.pt", input_shapes=[(1, 3)])
    assert error.code is ErrorCode.CAPTURE_FAILED
    assert "input features is a Dict[str, Tensor]" in error.message


class Counts(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * len(inputs)


def test_any_number_of_inputs() -> None:
    x = torch.ones(2, 3)
    assert torch.equal(load(Counts(), example_inputs=(x, x))(x, x), 2 * x)
