"""The frame of the speed benchmark, and that its parts compare like with like."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import __main__ as speed
from benchmarks.speed import cost, plan
from benchmarks.speed.solver import solving
from intrafusion.transport import coupling


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonesuch"], "no part nonesuch; choose among cost, plan"),
        (["--device", "nonesuch", "cost"], "no device 'nonesuch' here"),
        (["--device", "cuda:99", "cost"], "no device 'cuda:99' here"),
    ],
)
def test_what_does_not_exist_is_refused(
    arguments: list[str], said: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        speed.main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(results.iterdir())


def test_the_cpu_is_where_things_are_measured_unless_another_device_is_named(results: Path) -> None:
    speed.main(["--device", "cpu", "cost"])
    assert list(json.loads((results / "speed.json").read_text())) == ["cost"]
    assert "wall-clock" not in (results / "speed.md").read_text()


def test_solvers_are_timed_once_where_one_calls_another() -> None:
    problem, survivors = plan.problem(40, 28)  # of a size that ours gives to POT
    with solving() as solver:
        start = time.perf_counter()
        coupling.survivor_plan(np.delete(problem, survivors, axis=0), survivors, 40)
        taken = time.perf_counter() - start
    assert 0 < solver.seconds <= taken


def test_what_is_promised_is_held_against_the_rows() -> None:
    row = {"n": 4096, "m": 2048, "times as fast": 2.0, "cost difference": 1e-6}
    assert len(plan.broken([row])) == 2
    assert plan.broken([{**row, "times as fast": 3.0, "cost difference": 0.0}]) == []
    assert len(cost.broken([{"n": 2, "largest difference": 0.1}])) == 1
