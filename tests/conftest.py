"""What several test packages share."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision, which beside the CPU build of torch imports only once its operator exists."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    # The operator lives as long as its library does.
    torchvision._intrafusion_test_library = library  # type: ignore[attr-defined]
    return torchvision
