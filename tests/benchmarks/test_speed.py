"""The frame of the speed benchmark, and that its parts compare like with like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speed import __main__ as speed
from benchmarks.speed import cost, plan


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    monkeypatch.setattr(plan, "UNITS", (40, 64))
    monkeypatch.setattr(cost, "SIZES", ((32, 100),))
    return tmp_path


def test_parts_keep_their_results_apart(results: Path) -> None:
    speed.main(["cost"])
    first = json.loads((results / "speed.json").read_text())
    speed.main(["plan"])
    both = json.loads((results / "speed.json").read_text())
    assert both == {"cost": first["cost"], "plan": both["plan"]}
    assert [(row["n"], row["m"]) for row in both["plan"]["rows"]] == [
        (40, 20),
        (40, 28),
        (64, 32),
        (64, 45),
    ]
    table = (results / "speed.md").read_text()
    assert "## Ground cost" in table
    assert "| 64 | 45 |" in table


def test_a_part_that_does_not_exist_is_refused(results: Path) -> None:
    with pytest.raises(SystemExit, match="no part nonesuch; choose among cost, plan"):
        speed.main(["nonesuch"])


def test_what_is_promised_is_held_against_the_rows() -> None:
    row = {"n": 4096, "m": 2048, "times as fast": 2.0, "cost difference": 1e-6}
    assert len(plan.broken([row])) == 2
    assert plan.broken([{**row, "times as fast": 3.0, "cost difference": 0.0}]) == []
    assert len(cost.broken([{"n": 2, "largest difference": 0.1}])) == 1
