"""TorchScript files that torch alone cannot read."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from intrafusion import ErrorCode, IntraFusionError, load


class UsesAnother(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.elsewhere.twice(x)


def test_an_operation_of_another_package_is_named(tmp_path: Path) -> None:
    package = torch.library.Library("elsewhere", "DEF")
    package.define("twice(Tensor x) -> Tensor")
    torch.jit.script(UsesAnother()).save(tmp_path / "net.pt")
    del package
    gc.collect()
    with pytest.raises(IntraFusionError) as caught:
        load(tmp_path / "net.pt", input_shapes=[(1, 3)])
    assert caught.value.code is ErrorCode.CAPTURE_FAILED
    assert "net.pt uses the operation elsewhere::twice" in caught.value.message
