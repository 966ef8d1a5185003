"""What people really have loads, is analysed, loses half of every group and is written."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest

from benchmarks.architectures import ZOO
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
REST = tuple(architecture.name for architecture in ZOO if architecture.name not in FAST)
IN_TURN = tuple(zip(REST, cycle(("traced", "scripted", "module", "exported")), strict=False))
"""Every other architecture in one form; `python -m benchmarks.zoo` takes hours over all of all."""


def check(name: str, form: str, folder: Path) -> None:
    row = measure(name, form, ["torchscript"], folder)
    if row.unmade:  # transformers, scripted
        row = measure(name, "traced", ["torchscript"], folder)
    assert row.errors.keys() == {1, 2, 5}
    assert list(broken_promises([row])) == []


@pytest.mark.parametrize("form", ["module", "traced"])
@pytest.mark.parametrize("name", FAST)
def test_small(name: str, form: str, tmp_path: Path) -> None:
    check(name, form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), IN_TURN)
def test_large(name: str, form: str, tmp_path: Path) -> None:
    check(name, form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["scripted", "frozen", "exported"])
@pytest.mark.parametrize("name", ["resnet18", "unet", "vit_timm", "torch_encoder", "gru"])
def test_further_forms(name: str, form: str, tmp_path: Path) -> None:
    check(name, form, tmp_path)
