"""That the speed benchmark measures on a device what it measures on the CPU, by its clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.architectures import Architecture, images, randomise, torchvision
from benchmarks.speed import __main__ as speed
from benchmarks.speed import cost, inference, lockstep, plan, whole
from benchmarks.speed.part import Row
from tests.intrafusion.device.work import accelerator

pytestmark = pytest.mark.slow

There = Callable[..., Any]


def small() -> nn.Module:
    torch.manual_seed(0)
    return randomise(torchvision("resnet18", num_classes=10)()).eval()


def tiny() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, stride=4, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 48, 3), nn.BatchNorm2d(48), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10)),
    )


def run_main(results: Path) -> None:
    speed.RESULTS, cost.SIZES, plan.UNITS = results, ((32, 100),), (40,)
    speed.main(["cost"])
    speed.main(["--device", "pretend", "cost", "plan"])


def run_lockstep() -> list[Row]:
    lockstep.SAMPLES, lockstep.SIZE, lockstep.network = (4, 8), 32, small
    return list(lockstep.measure(accelerator().device))


def run_whole() -> Mapping[str, whole.Took]:
    whole.torchvision = lambda name: tiny
    return {name: whole.measured(name, "pretend") for name in whole.RUNS}


def run_inference() -> list[Row]:
    inference.NETWORKS, inference.BATCHES, inference.SECONDS = ("tiny",), (2,), 0.1
    inference.named = lambda name: Architecture(name, tiny, images(64))
    return list(inference.measure(accelerator().device))


def test_devices_have_tables_of_their_own(tmp_path: Path, there: There) -> None:
    there(run_main, tmp_path)
    measured = json.loads((tmp_path / "speed.json").read_text())
    assert list(measured) == ["cost", "cost on pretend", "plan on pretend"]
    (row,) = measured["cost on pretend"]["rows"]
    assert row["largest difference"] < cost.SAME
    for row in measured["plan on pretend"]["rows"]:
        total = sum(row[part] for part in ("costs s", "to the CPU s", "solver s"))
        assert row["solver's share"] == pytest.approx(row["solver s"] / total)
    tables = (tmp_path / "speed.md").read_text()
    titles = [line for line in tables.splitlines() if line.startswith("## ")]
    assert titles == ["## Ground cost", "## Ground cost on pretend", "## Transport plan on pretend"]
    assert "wall-clock" in tables


def test_the_lockstep_is_measured_there(there: There) -> None:
    rows = there(run_lockstep)
    assert [row["images"] for row in rows] == [4, 8]
    assert all(row["layers"] == 20 for row in rows)
    assert all(row["lockstep s"] > 0 for row in rows)


def test_the_whole_is_measured_there_with_its_peers(there: There) -> None:
    taken = there(run_whole)
    published, pruned = (taken[name] for name in whole.PEERS)
    ours = [taken[name] for name in (whole.PUBLISHED, whole.DEFAULT)]
    assert pruned.solver == 0
    for took in (published, *ours):
        assert 0 < took.solver < took.seconds


def test_compressed_networks_are_timed_there_in_both_precisions(there: There) -> None:
    rows = there(run_inference)
    assert {row["precision"] for row in rows} == {"float32", "float16"}
    assert all(row["original ms"] > 0 and row["compressed ms"] > 0 for row in rows)
