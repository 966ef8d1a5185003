"""Networks that do not run, or not always alike, and what their owners are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from intrafusion import ErrorCode, load
from tests.intrafusion.program.forms import refusal


class Raises(nn.Module):
    def check(self, x: Tensor) -> Tensor:
        if x.sum() != 0.5:
            raise RuntimeError("the licence server said no")
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.check(x)


def test_forward_that_raises(tmp_path: Path) -> None:
    error = refusal(Raises(), input_shapes=[(1, 3)])
    assert error.code is ErrorCode.MODEL_DOES_NOT_RUN
    assert "raises RuntimeError on float32[2, 3]: the licence server said no" in error.message
    torch.jit.script(Raises()).save(tmp_path / "net.pt")
    error = refusal(tmp_path / "net.pt", input_shapes=[(1, 3)])
    assert error.code is ErrorCode.MODEL_DOES_NOT_RUN
    assert "raises RuntimeError on float32[2, 3] at line 19 of test_verify.py" in error.message
    assert error.message.endswith(": the licence server said no.")


class AlwaysDropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, training=True)


@pytest.mark.parametrize("traced", [False, True])
def test_dropout_left_on(traced: bool, tmp_path: Path) -> None:
    source: object = AlwaysDropping()
    if traced:
        source = tmp_path / "net.pt"
        trace = torch.jit.trace(AlwaysDropping(), torch.randn(2, 100), check_trace=False)
        trace.save(source)
    error = refusal(source, input_shapes=[(1, 100)])
    assert error.code is ErrorCode.MODEL_NOT_DETERMINISTIC
    assert "call .eval() before tracing" in error.hint


class BuiltIn(nn.Module):
    """Tracing makes a number of what this asks for in Python's words."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + torch.ones(int(x.shape[0]), 3)


@pytest.mark.parametrize(("traced_at", "stated"), [(2, 1), (8, 8)])
def test_batch_size_that_tracing_built_in(traced_at: int, stated: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.trace(BuiltIn(), torch.randn(traced_at, 4)).save(path)
    error = refusal(path, input_shapes=[(stated, 4)])
    assert error.code is ErrorCode.BATCH_DEPENDENT
    assert f"runs on a batch of {traced_at}" in error.message
    assert "script" in error.hint


def test_wrong_shape_is_no_matter_of_the_batch(tmp_path: Path) -> None:
    torch.jit.trace(BuiltIn(), torch.randn(2, 4)).save(tmp_path / "net.pt")
    error = refusal(tmp_path / "net.pt", input_shapes=[(1, 5)])
    assert error.code is ErrorCode.INPUT_SHAPE_MISMATCH


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def test_normalising_over_the_batch_is_told(tmp_path: Path) -> None:
    torch.jit.trace(normed().train(), torch.randn(8, 4)).save(tmp_path / "training.pt")
    torch.jit.trace(normed().eval(), torch.randn(8, 4)).save(tmp_path / "evaluation.pt")
    program = load(tmp_path / "training.pt", input_shapes=[(1, 4)])
    assert any("other samples of its batch" in note for note in program.notes)
    assert all("script." not in note for note in program.notes)
    x = torch.randn(7, 4)
    torch.testing.assert_close(program(x), torch.jit.load(tmp_path / "training.pt")(x))
    assert load(tmp_path / "evaluation.pt", input_shapes=[(1, 4)]).notes == ()


class Summary(nn.Module):
    """Outputs that have no batch, or have it in another place."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(), x.transpose(0, 1)


def test_outputs_without_the_batch_in_front_say_nothing() -> None:
    assert load(Summary().eval(), input_shapes=[(1, 4)]).notes == ()
