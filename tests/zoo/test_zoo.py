"""What people really have loads, is analysed, loses half of every group and is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.zoo.row import measure
from benchmarks.zoo.table import broken_promises

FAST = (
    "unet",
    "cbam",
    "two_in_two_out",
    "llama_gqa",
    "lstm",
    "weight_norm",
)
SLOW = (
    "resnet50",
    "densenet121",
    "mobilenet_v3",
    "efficientnet_b0",
    "ghostnet",
    "shufflenet_v2",
    "convnext",
    "vit_timm",
    "swin",
    "coatnet",
    "edgenext",
    "gcvit",
    "dinov2",
    "gpt2",
    "bert",
    "vit_transformers",
    "clip",
    "detector_fpn",
    "gru",
)


def check(name: str, form: str, folder: Path) -> None:
    row = measure(name, form, ["torchscript"], folder)
    assert not row.unmade
    assert row.errors.keys() == {1, 2, 5}
    assert list(broken_promises([row])) == []


@pytest.mark.parametrize("form", ["module", "traced"])
@pytest.mark.parametrize("name", FAST)
def test_small(name: str, form: str, tmp_path: Path) -> None:
    check(name, form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["module", "traced"])
@pytest.mark.parametrize("name", SLOW)
def test_large(name: str, form: str, tmp_path: Path) -> None:
    check(name, form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["scripted", "frozen", "exported"])
@pytest.mark.parametrize("name", ["resnet18", "unet", "vit_timm", "torch_encoder", "gru"])
def test_further_forms(name: str, form: str, tmp_path: Path) -> None:
    check(name, form, tmp_path)
