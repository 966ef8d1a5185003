"""TorchScript that cannot be read says why."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion import ErrorCode, IntraFusionError, load


class Branching(nn.Module):
    """Does more where its input is large."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.more, self.last = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        if x.shape[1] > 4:
            x = x * 2
        if x.sum() > 10.0:
            x = self.more(x)
        return self.last(x)


def test_a_branch_on_data_is_named_by_its_line() -> None:
    script = torch.jit.script(Branching().eval())
    with pytest.raises(IntraFusionError) as raised:
        load(script, input_shapes=[(1, 5)])
    assert raised.value.code is ErrorCode.CAPTURE_FAILED
    assert "test_torchscript.py, `if x.sum() > 10.0:`" in raised.value.message
    assert "x.shape" not in raised.value.message
