"""Few given samples, with made ones beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from intrafusion import (
    CompressionSpec,
    Dataset,
    ErrorCode,
    IntraFusionError,
    compress,
    load,
    load_dataset,
)
from intrafusion.calibration.made import kind, search
from intrafusion.calibration.made.classes import Classes
from intrafusion.calibration.made.statistics import Statistics
from intrafusion.program import Program
from intrafusion.report import CompensationReport
from tests.intrafusion.programs import example, program_of

EXAMPLES = Path(__file__).parents[3] / "examples"
QUICK = CompressionSpec(joint_steps=0)


def refitted_on(
    program: Program, given: Dataset | None, spec: CompressionSpec = QUICK
) -> CompensationReport:
    return compress(program, spec, given).report.compensation


def few(count: int) -> Dataset:
    return Dataset((example(count, seed=7),), torch.arange(count) % 5)


def test_fewer_than_would_be_made_are_added_to() -> None:
    program = program_of("vgg")
    report = compress(program, QUICK, few(Statistics.wanted - 1)).report
    both = report.compensation
    warning = report.warnings[0]
    assert f"only {Statistics.wanted - 1} different" in warning
    assert f"Beside them stand {Statistics.wanted} that the network was made to give" in warning
    assert (both.mode, both.made_from) == ("both", "statistics")
    assert (both.made, both.samples) == (Statistics.wanted, 2 * Statistics.wanted - 1)
    enough = refitted_on(program, few(Statistics.wanted))
    assert (enough.mode, enough.made, enough.samples) == ("calibration", 0, Statistics.wanted)


def test_it_can_be_chosen_and_left_out() -> None:
    program = program_of("vgg")
    both = refitted_on(program, few(40), QUICK.model_copy(update={"compensation": "both"}))
    assert (both.mode, both.samples) == ("both", 40 + Statistics.wanted)
    alone = QUICK.model_copy(update={"compensation": "calibration"})
    assert refitted_on(program, few(4), alone).samples == 4


def test_it_needs_samples() -> None:
    spec = QUICK.model_copy(update={"compensation": "both"})
    with pytest.raises(IntraFusionError, match="'both' needs calibration samples") as caught:
        compress(program_of("vgg"), spec)
    assert caught.value.code is ErrorCode.DATASET_TOO_SMALL


def test_labels_are_looked_at_with_their_own_samples() -> None:
    spec = QUICK.model_copy(update={"importance": "taylor"})
    assert refitted_on(program_of("vgg"), few(4), spec).mode == "both"


def test_noise_is_kept_away_from_real_samples() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    program = load(network.eval(), input_shapes=[(2, 3, 16, 16)])
    assert refitted_on(program, Dataset((example(4),))).mode == "calibration"
    assert refitted_on(program, None).made_from == "noise"


@pytest.mark.slow
def test_few_real_samples_are_better_with_made_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classes, "wanted", kind.MOST)
    monkeypatch.setattr(search, "STEPS", 100)
    program = load(EXAMPLES / "mnist_mlp.pt", input_shapes=[(1, 1, 28, 28)])
    (images,) = load_dataset(EXAMPLES / "mnist_calibration.npz").inputs
    test = load_dataset(EXAMPLES / "mnist_test.npz")
    given = Dataset((images[:16],))

    def accuracy(compensation: str) -> float:
        spec = QUICK.model_copy(update={"compensation": compensation})
        after = compress(program, spec, given, test).report.after
        assert after.accuracy is not None
        return after.accuracy

    both, alone = accuracy("both"), accuracy("calibration")
    assert both > 0.95 > 0.75 > alone
