"""The registration of an architecture that examples/README.md shows, followed to the letter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

EXAMPLES = Path(__file__).parents[2] / "examples"


def install(folder: Path) -> None:
    """Lay out `mypackage` in `folder` as pip would, with the README's entry point."""
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "__init__.py").touch()
    (folder / "mypackage" / "networks.py").write_text(
        (EXAMPLES / "networks" / "vgg.py").read_text()
    )
    text = (EXAMPLES / "README.md").read_text()
    line = re.search(r'^"(mine/\w+)" = "([\w.:]+)"$', text, re.MULTILINE)
    group = re.search(r'^\[project\.entry-points\."([\w.]+)"\]$', text, re.MULTILINE)
    assert line is not None
    assert group is not None
    info = folder / "mypackage-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group[1]}]\n{line[1]} = {line[2]}\n")


def test_a_state_dict_compresses_once_its_architecture_is_registered(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "intrafusion.cli", "compress"),
        *(EXAMPLES / "fashion_vgg.safetensors", "-o", tmp_path / "small.safetensors"),
        *("--architecture", "mine/fashion_vgg", "--input-shape", "1,1,28,28"),
        *("--compensation", "none"),
    ]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    before = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert before.returncode == 2
    assert "unknown_architecture" in before.stderr

    install(tmp_path)
    after = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert after.returncode == 0, after.stderr
    shapes = {key: value.shape for key, value in load_file(tmp_path / "small.safetensors").items()}
    assert shapes["features.4.weight"] == torch.Size([32, 16, 3, 3])
    assert shapes["classifier.weight"] == torch.Size([10, 64])
