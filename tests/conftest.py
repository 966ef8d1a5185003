"""What several test packages share."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision, whose compiled operators the CPU build of torch cannot load.

    Its Python registers fakes for two of them at import, which needs their schemas.
    """
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", _SIGNATURE)
    import torchvision

    return torchvision
