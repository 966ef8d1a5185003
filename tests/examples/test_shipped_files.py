"""The files under examples/ are what examples/README.md says they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.data import Labelled
from examples.data.tones import draw
from examples.networks import NETWORKS
from examples.networks.transformer import CLASSES, WINDOW
from examples.train import accuracy
from examples.trained import load_network

EXAMPLES = Path(__file__).parents[2] / "examples"
FLOORS = {
    "fashion_vgg": 0.915,
    "fashion_resnet": 0.915,
    "fashion_mobilenet": 0.9,
    "fashion_densenet": 0.9,
    "fashion_gru": 0.82,
    "mnist_vit": 0.97,
    "mnist_mlp": 0.98,
    "tones_conv": 0.95,
    "text_transformer": 0.56,
}


def labelled_slice(name: str) -> Labelled:
    """Test samples that need no download."""
    if name.startswith("tones"):
        return draw(2_000, seed=77)
    data = np.load(EXAMPLES / f"{name.partition('_')[0]}_test.npz")
    return Labelled(data["inputs"], data["labels"])


@pytest.fixture(params=sorted(NETWORKS))
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_torchscript_and_safetensors_hold_the_same_network(name: str, batch: int) -> None:
    network = load_network(name)
    samples = torch.from_numpy(labelled_slice(name).inputs[:batch])
    with torch.no_grad():
        expected = network(samples)
        found = torch.jit.load(EXAMPLES / f"{name}.pt")(samples)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_labelled_slice_shows_the_promised_accuracy(name: str) -> None:
    # ± 1.2 points is two standard errors of 2,000 samples
    assert accuracy(load_network(name), labelled_slice(name)) > FLOORS[name] - 0.012


def test_the_readme_states_parameters_and_an_accuracy_above_the_floor(name: str) -> None:
    text = (EXAMPLES / "README.md").read_text()
    (line,) = [row for row in text.splitlines() if row.startswith(f"| `{name}.pt`")]
    parameters = sum(p.numel() for p in NETWORKS[name]().parameters())
    assert f"{parameters:,} parameters" in line
    stated = re.search(r"\| (\d\d\.\d\d) % \|$", line)
    assert stated is not None
    assert float(stated[1]) / 100 >= FLOORS[name]


def test_the_text_files_have_the_stated_arrays() -> None:
    calibration, test = (np.load(EXAMPLES / f"text_{part}.npz") for part in ("calibration", "test"))
    assert calibration.files == ["inputs"]
    assert sorted(test.files) == ["inputs", "labels"]
    for inputs, count in ((calibration["inputs"], 256), (test["inputs"], 2000)):
        assert inputs.dtype == np.int64
        assert inputs.shape == (count, WINDOW)
        assert 0 < inputs.min() < inputs.max() < CLASSES
        assert len(np.unique(inputs, axis=0)) > 0.95 * count, "lines under headings are alike"
    assert test["labels"].dtype == np.int64


@pytest.mark.parametrize("data", ["fashion", "mnist"])
def test_the_data_files_have_the_stated_arrays(data: str) -> None:
    calibration = np.load(EXAMPLES / f"{data}_calibration.npz")
    test = np.load(EXAMPLES / f"{data}_test.npz")
    assert calibration.files == ["inputs"]
    assert sorted(test.files) == ["inputs", "labels"]
    for inputs, count in ((calibration["inputs"], 256), (test["inputs"], 2000)):
        assert inputs.dtype == np.float32
        assert inputs.shape == (count, 1, 28, 28)
        assert (inputs.min(), inputs.max()) == (0, 1)
    assert test["labels"].dtype == np.int64
    assert np.bincount(test["labels"], minlength=10).min() > 150
    assert len(np.unique(calibration["inputs"], axis=0)) == 256
