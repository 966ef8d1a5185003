"""TorchScript's tracebacks in a line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from intrafusion.program import messages, torch_private


class TooWide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.head(y)


def error_of(call: Callable[[Tensor], Tensor]) -> Exception:
    with pytest.raises(Exception, match="shapes") as caught:
        call(torch.randn(2, 4))
    return caught.value


def test_place_in_scripted_code_is_the_users_line() -> None:
    script = torch_private.copy_script(torch.jit.script(TooWide()))
    error = error_of(script)
    assert messages.place_of(error) == "line 22 of test_messages.py, `return self.head(y)`"
    assert messages.reason_line(error).startswith("mat1 and mat2 shapes cannot be multiplied")
    assert messages.kind_of_error(error) == "RuntimeError"


def test_place_in_traced_code_is_the_users_line_and_the_operation() -> None:
    trace = torch.jit.trace(nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 4))
    script = torch_private.copy_script(trace)
    with pytest.raises(RuntimeError) as caught:
        script(torch.randn(2, 5))
    place = messages.place_of(caught.value)
    assert "of test_messages.py, `" in place
    assert "linear(" in place


def test_other_errors_have_no_place() -> None:
    error = error_of(TooWide())
    assert messages.place_of(error) == ""
    assert messages.kind_of_error(error) == "RuntimeError"
