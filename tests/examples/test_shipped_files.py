"""The files under examples/ are what examples/README.md says they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from examples.networks import NETWORKS

EXAMPLES = Path(__file__).parents[2] / "examples"
ACCURACY_FLOOR = 0.915


@pytest.fixture(params=sorted(NETWORKS))
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_torchscript_and_safetensors_hold_the_same_network(name: str, batch: int) -> None:
    network = NETWORKS[name]()
    network.load_state_dict(load_file(EXAMPLES / f"{name}.safetensors"))
    images = torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.eval()(images)
        found = torch.jit.load(EXAMPLES / f"{name}.pt")(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_labelled_slice_shows_the_promised_accuracy(name: str) -> None:
    data = np.load(EXAMPLES / "fashion_test.npz")
    network = torch.jit.load(EXAMPLES / f"{name}.pt")
    with torch.no_grad():
        predicted = network(torch.from_numpy(data["inputs"])).argmax(1).numpy()
    # ± 1.2 points is two standard errors of 2,000 images
    assert (predicted == data["labels"]).mean() > ACCURACY_FLOOR - 0.012


def test_the_readme_states_parameters_and_an_accuracy_above_the_floor(name: str) -> None:
    text = (EXAMPLES / "README.md").read_text()
    (line,) = [row for row in text.splitlines() if row.startswith(f"| `{name}.pt`")]
    parameters = sum(p.numel() for p in NETWORKS[name]().parameters())
    assert f"{parameters:,} parameters" in line
    stated = re.search(r"\| (\d\d\.\d\d) % \|$", line)
    assert stated is not None
    assert float(stated[1]) / 100 >= ACCURACY_FLOOR


def test_the_data_files_have_the_stated_arrays() -> None:
    calibration = np.load(EXAMPLES / "fashion_calibration.npz")
    test = np.load(EXAMPLES / "fashion_test.npz")
    assert calibration.files == ["inputs"]
    assert sorted(test.files) == ["inputs", "labels"]
    for inputs, count in ((calibration["inputs"], 256), (test["inputs"], 2000)):
        assert inputs.dtype == np.float32
        assert inputs.shape == (count, 1, 28, 28)
        assert (inputs.min(), inputs.max()) == (0, 1)
    assert test["labels"].dtype == np.int64
    assert np.bincount(test["labels"], minlength=10).min() > 150
    assert len(np.unique(calibration["inputs"], axis=0)) == 256
