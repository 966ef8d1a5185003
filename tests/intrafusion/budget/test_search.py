"""The smallest network within a limit, and the largest that is fast enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from intrafusion import (
    Compression,
    CompressionSpec,
    Dataset,
    ErrorCode,
    IntraFusionError,
    compress,
    load,
    load_dataset,
)
from intrafusion.budget.search import HELD_OUT
from intrafusion.report import Progress
from tests.intrafusion.programs import example, program_of

EXAMPLES = Path(__file__).parents[3] / "examples"
UNLABELLED = Dataset((example(100, seed=7),))


def first(count: int, dataset: Dataset) -> Dataset:
    labels = None if dataset.labels is None else dataset.labels[:count]
    return replace(dataset, inputs=tuple(x[:count] for x in dataset.inputs), labels=labels)


def labelled(count: int, seed: int) -> Dataset:
    """Samples with the classes that the network itself gives them: it is right on all."""
    inputs = example(count, seed=seed)
    return Dataset((inputs,), program_of("vgg")(inputs).argmax(1))


def searched(
    calibration: Dataset | None, evaluation: Dataset | None, **choices: object
) -> Compression:
    compensation = "none" if calibration is None else "auto"
    spec = CompressionSpec(joint_steps=0, compensation=compensation, **choices)
    return compress(program_of("vgg"), spec, calibration, evaluation)


@pytest.mark.parametrize("size", ["parameters", "macs"])
def test_the_smallest_network_within_an_accuracy_drop(size: str) -> None:
    program = load(EXAMPLES / "fashion_vgg.pt", input_shapes=[(1, 1, 28, 28)])
    calibration = first(32, load_dataset(EXAMPLES / "fashion_calibration.npz"))
    evaluation = first(200, load_dataset(EXAMPLES / "fashion_test.npz"))
    spec = CompressionSpec(max_accuracy_drop=0.05, minimise=size, joint_steps=0)
    result = compress(program, spec, calibration, evaluation)
    before, after, search = result.report.before, result.report.after, result.report.search
    assert before.accuracy is not None
    assert after.accuracy is not None
    assert before.accuracy - after.accuracy <= 0.05 + 1e-9
    assert search is not None
    shares = [each.share for each in search.tries]
    assert shares == sorted(shares, reverse=True)
    smallest = [each for each in search.tries if each.within][-1]
    assert getattr(after, size) == getattr(smallest, size) < 0.5 * getattr(before, size)
    # The border is enclosed: the next smaller network that was tried loses too much.
    beyond = search.tries[search.tries.index(smallest) + 1]
    assert not beyond.within
    assert before.accuracy - beyond.accuracy > 0.05
    # What was decided is a budget by size, and needs no search to give the same network again.
    decided = result.report.decided
    assert decided.max_accuracy_drop is None
    assert getattr(decided, size) == smallest.share
    again = compress(program, decided, calibration, evaluation)
    assert again.report.search is None
    assert all(torch.equal(again.program.tensors[n], t) for n, t in result.program.tensors.items())


def test_without_evaluation_samples_some_are_held_out() -> None:
    calibration = labelled(100, seed=4)
    result = searched(calibration, None, max_output_distance=0.5)
    assert result.report.search is not None
    assert result.report.search.samples == 100 // HELD_OUT
    assert result.report.fidelity is not None
    assert result.report.fidelity.samples == 100 // HELD_OUT
    assert result.report.fidelity.relative_distance <= 0.5
    assert any("held out" in warning for warning in result.report.warnings)
    seen, _ = calibration.split(HELD_OUT)
    again = compress(program_of("vgg"), result.report.decided, seen)
    assert torch.equal(again.program(example()), result.program(example()))


def test_labels_may_be_those_of_the_calibration_samples() -> None:
    report = searched(labelled(100, seed=4), UNLABELLED, max_accuracy_drop=0.1).report
    assert report.search is not None
    assert report.search.samples == 100 // HELD_OUT
    assert report.fidelity is not None
    assert report.fidelity.samples == len(UNLABELLED)


def test_where_everything_loses_too_much_the_original_comes_back() -> None:
    result = searched(None, UNLABELLED, max_output_distance=1e-9)
    assert all(
        torch.equal(result.program.tensors[n], t) for n, t in program_of("vgg").tensors.items()
    )
    assert result.report.after.parameters == result.report.before.parameters
    assert all(group.kept == group.units for group in result.report.groups)
    assert any("No smaller network" in warning for warning in result.report.warnings)


@pytest.mark.parametrize(
    ("budget", "calibration", "evaluation", "code"),
    [
        ("max_accuracy_drop", None, None, ErrorCode.DATASET_TOO_SMALL),
        ("max_accuracy_drop", UNLABELLED, UNLABELLED, ErrorCode.DATASET_LABELS_INVALID),
        ("max_output_distance", None, None, ErrorCode.DATASET_TOO_SMALL),
        ("max_output_distance", Dataset((example(4),)), None, ErrorCode.DATASET_TOO_SMALL),
        ("max_accuracy_drop", labelled(4, 0), None, ErrorCode.DATASET_TOO_SMALL),
    ],
)
def test_what_cannot_be_measured_is_refused(
    budget: str, calibration: Dataset | None, evaluation: Dataset | None, code: ErrorCode
) -> None:
    with pytest.raises(IntraFusionError) as caught:
        searched(calibration, evaluation, **{budget: 0.1})
    assert caught.value.code is code
    assert budget in caught.value.message


def test_every_try_is_told() -> None:
    seen: list[Progress] = []
    spec = CompressionSpec(max_output_distance=0.5, compensation="none")
    report = compress(program_of("vgg"), spec, None, UNLABELLED, progress=seen.append).report
    told = [p for p in seen if p.step == "search"]
    assert [p.done for p in told] == list(range(told[-1].total + 1))
    assert report.search is not None
    assert len(report.search.tries) <= told[-1].total
    assert sum(p.step == "fuse" and p.done == 0 for p in seen) == len(report.search.tries)


def test_the_largest_network_that_is_fast_enough() -> None:
    report = searched(None, None, latency=0.97).report
    assert report.search is not None
    tries = report.search.tries
    assert [t.within for t in tries] == [t.latency is not None and t.latency <= 0.97 for t in tries]
    assert report.decided.latency is None
    chosen = next(t for t in tries if t.share == report.decided.macs)
    assert chosen.within
    assert (report.after.macs, report.after.parameters) == (chosen.macs, chosen.parameters)


def test_no_network_is_infinitely_fast() -> None:
    with pytest.raises(IntraFusionError, match="fastest network") as caught:
        searched(None, None, latency=0.001)
    assert caught.value.code is ErrorCode.BUDGET_UNREACHABLE
    assert caught.value.details["least"] > 0.001
