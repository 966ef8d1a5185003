"""`make demo`, as a stranger runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)  # the joint refit alone takes minutes where cores are shared
def test_the_demo_leaves_a_smaller_network_and_no_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--output", tmp_path],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "120", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=840,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("Before and after", "accuracy", "MACs", "agreement", "latency", "file, bytes"):
        assert expected in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["after"]["parameters"] < 0.3 * report["before"]["parameters"]
    assert report["before"]["accuracy"] - report["after"]["accuracy"] < 0.04
    code = "import sys, torch; print(torch.jit.load(sys.argv[1])(torch.rand(7, 1, 28, 28)).shape)"
    plain = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.pt"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert plain.stdout.strip() == "torch.Size([7, 10])"
    left = [path.name for path in tmp_path.iterdir()]
    made = ["model.pt", "model.safetensors", "report.html", "report.json"]
    assert sorted(left) == [*made, "server.log"]
    assert (
        str(tmp_path)
        not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    )
