"""What users ask of compress() and inspect(), and what they get."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import intrafusion
from intrafusion import (
    CompressionReport,
    CompressionSpec,
    Dataset,
    ErrorCode,
    IntraFusionError,
    compress,
    inspect,
    load,
)
from intrafusion.channels import analyse
from intrafusion.compensation import joint
from intrafusion.report import Progress
from tests.intrafusion.programs import duplicated, example, program_of, relative_error
from tests.networks import NETWORKS

HALF = CompressionSpec(sparsity=0.5, joint_steps=10)
ALONE = CompressionSpec(compensation="none")
"""Half of all units, by the weights alone."""


def samples(count: int = 128, *, labelled: bool = False) -> Dataset:
    labels = torch.arange(count) % 10 if labelled else None
    return Dataset((example(count, seed=7),), labels)


@pytest.mark.parametrize("name", NETWORKS)
def test_compressed_programs_run_at_any_batch_size(name: str) -> None:
    result = compress(program_of(name), HALF, samples())
    assert result.program.parameter_count < 0.5 * program_of(name).parameter_count
    for batch in (1, 7, 64):
        assert result.program(example(batch)).shape == (batch, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_copies_are_fused_without_loss(name: str) -> None:
    program = duplicated(analyse(program_of(name)))
    result = compress(program, ALONE)
    assert relative_error(result.program(example(5)), program(example(5))) <= 1e-5


@pytest.mark.parametrize("target", ["kmeans", "gmm"])
def test_clusters_of_exact_copies_are_fused_without_loss(target: str) -> None:
    program = duplicated(analyse(program_of("resnet")))
    result = compress(program, CompressionSpec(target=target, compensation="none"))
    assert relative_error(result.program(example(5)), program(example(5))) <= 1e-5


def test_the_report_tells_what_happened() -> None:
    program = program_of("resnet")
    spec = CompressionSpec(sparsity=0.5, allocation="uniform", joint_steps=10)
    report = compress(program, spec, samples(), samples(labelled=True)).report
    assert report == CompressionReport.model_validate_json(report.model_dump_json())
    assert report.before.parameters == program.parameter_count
    assert report.after.parameters < report.before.parameters / 2
    assert report.after.macs < report.before.macs / 2
    assert report.before.accuracy is not None
    assert report.fidelity is not None
    assert report.fidelity.source == "evaluation"
    assert report.compensation.mode == "calibration"
    assert report.compensation.samples == 128
    assert [(g.units, g.kept) for g in report.groups] == [
        (8, 4),
        (8, 4),
        (12, 6),
        (12, 6),
        (12, 6),
    ]
    assert {
        "fold",
        "analyse",
        "allocate",
        "plan",
        "fuse",
        "compensate",
        "evaluate",
    } <= report.seconds.keys()


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ("calibration", {"importance": "reconstruction", "allocation": "reconstruction"}),
        ("both", {"importance": "reconstruction", "allocation": "reconstruction"}),
        ("inversion", {"importance": "reconstruction", "allocation": "reconstruction"}),
        ("none", {"importance": "l1", "allocation": "uniform", "producers": "mean"}),
    ],
)
def test_the_report_tells_what_was_asked_for_and_what_was_done(
    asked: str, done: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "STEPS", joint.FEWEST_STEPS)
    data = {"calibration": samples(64), "both": samples(8)}.get(asked)
    compensation = "none" if asked == "none" else "auto"
    spec = CompressionSpec(parameters=0.5, compensation=compensation)
    result = compress(program_of("vgg"), spec, data)
    assert result.report.spec == spec
    decided = result.report.decided
    assert decided.parameters == 0.5
    assert "auto" not in decided.model_dump().values()
    refitted = {"producers": "keep", "joint_steps": joint.STEPS}
    expected = {"joint_steps": 0} if asked == "none" else refitted
    expected |= {"compensation": asked, **done}
    assert {name: getattr(decided, name) for name in expected} == expected
    # What was done is a spec like any other, and gives the same again.
    again = compress(program_of("vgg"), decided, data)
    assert again.report.decided == decided
    assert torch.equal(again.program(example()), result.program(example()))


def test_progress_starts_and_completes_every_step() -> None:
    seen: list[Progress] = []
    spec = CompressionSpec(sparsity=0.5, joint_steps=3)
    compress(program_of("vgg"), spec, samples(), progress=seen.append)
    steps = list(dict.fromkeys(p.step for p in seen))
    first = ["fold", "analyse", "allocate", "plan", "fuse"]
    assert steps == [*first, "compensate", "refit jointly", "evaluate"]
    for step in steps:
        of_step = [p for p in seen if p.step == step]
        assert of_step[0].done == 0
        assert of_step[-1].done == of_step[-1].total
        assert [p.done for p in of_step] == sorted(p.done for p in of_step)


def test_what_the_listener_raises_ends_the_work() -> None:
    class StopHereError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == "fuse":
            raise StopHereError

    with pytest.raises(StopHereError):
        compress(program_of("vgg"), ALONE, progress=stop)


def test_names_stay_and_the_original_is_not_touched() -> None:
    program = program_of("resnet")
    before = {name: tensor.clone() for name, tensor in program.tensors.items()}
    result = compress(program, HALF, samples())
    assert all(torch.equal(before[name], t) for name, t in program.tensors.items())
    new = set(result.program.tensors) - set(before)
    assert new == {
        "stem.0.bias",
        *(f"stages.{i}.conv{j}.bias" for i in range(3) for j in (1, 2)),
        "stages.1.shortcut.0.bias",
    }


@pytest.mark.parametrize("sparsity", [0.1, 0.25, 0.7, 0.95])
def test_every_group_keeps_its_share(sparsity: float) -> None:
    spec = CompressionSpec(sparsity=sparsity, allocation="uniform", joint_steps=0)
    report = compress(program_of("vgg"), spec, samples(16)).report
    for group in report.groups:
        assert group.kept == max(1, group.units - round(group.units * sparsity))


def test_kept_units_are_rounded_up() -> None:
    spec = CompressionSpec(sparsity=0.6, round_to=4, compensation="none")
    report = compress(program_of("vgg"), spec).report
    assert [group.kept for group in report.groups] == [4, 8, 8, 8]


def test_include_and_exclude_choose_groups_by_name_and_glob() -> None:
    program = program_of("vgg")
    spec = CompressionSpec(
        include=["features.*"], exclude=["features.8.weight"], compensation="none"
    )
    kept = {g.name: g.units - g.kept for g in compress(program, spec).report.groups}
    # The second group is read by features.8, the third is made by it.
    assert kept == {
        "features.0.weight": 4,
        "features.4.weight": 0,
        "features.8.weight": 0,
        "classifier.0.weight": 0,
    }


@pytest.mark.parametrize(
    ("spec", "removed"),
    [
        ({"include": [0]}, [0, 0, 0, 10]),
        ({"include": ["1", "features.0.weight"]}, [4, 0, 8, 0]),
        ({"exclude": [0, 3]}, [0, 6, 8, 0]),
        ({"include": [2], "group_sparsity": {"2": 0.25}}, [0, 3, 0, 0]),
    ],
)
def test_a_number_is_a_group_counted_from_the_output(
    spec: dict[str, object], removed: list[int]
) -> None:
    report = compress(program_of("vgg"), CompressionSpec(compensation="none", **spec)).report
    assert [group.units - group.kept for group in report.groups] == removed


@pytest.mark.parametrize("steps", [2, 3, 30])
@pytest.mark.parametrize("name", ["vgg", "mobilenet"])
def test_rounds_end_at_the_sparsity_asked_for(name: str, steps: int) -> None:
    spec = CompressionSpec(sparsity=0.7, round_to=2, joint_steps=2)
    at_once = compress(program_of(name), spec, samples(16))
    result = compress(program_of(name), spec.model_copy(update={"steps": steps}), samples(16))
    assert result.report.groups == at_once.report.groups
    shapes, expected = (
        {name: tensor.shape for name, tensor in each.program.tensors.items()}
        for each in (result, at_once)
    )
    assert shapes == expected
    assert result.program.plan is not None
    assert at_once.program.plan is not None
    assert result.program.plan.shapes == at_once.program.plan.shapes
    # Each round chose anew, on what the round before had left.
    assert not torch.equal(result.program(example()), at_once.program(example()))


def test_each_round_works_on_what_the_round_before_gave() -> None:
    # 8, 12, 16, 20 units: the half of those that go, then the rest of them.
    counts = {"features.0.weight": 0.25, "features.4.weight": 0.25, "features.8.weight": 0.25}
    half = CompressionSpec(group_sparsity={**counts, "classifier.*": 0.25}, compensation="none")
    rest = CompressionSpec(group_sparsity={"*": 1 / 3}, compensation="none")
    by_hand = compress(compress(program_of("vgg"), half).program, rest)
    result = compress(program_of("vgg"), CompressionSpec(compensation="none", steps=2))
    torch.testing.assert_close(result.program(example()), by_hand.program(example()))


def test_a_request_that_would_prune_nothing_is_an_error() -> None:
    with pytest.raises(IntraFusionError) as caught:
        compress(program_of("vgg"), CompressionSpec(sparsity=0.5, include=["no.such.*"]))
    assert caught.value.code is ErrorCode.NOTHING_TO_PRUNE
    assert "features.0.weight" in caught.value.details["groups"]


def test_a_network_of_which_everything_is_frozen_is_an_error() -> None:
    program = load(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)).eval(), input_shapes=[(1, 4)])
    assert inspect(program).groups == []
    with pytest.raises(IntraFusionError) as caught:
        compress(program, HALF)
    assert caught.value.code is ErrorCode.NOTHING_TO_PRUNE


def test_calibration_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(IntraFusionError) as caught:
        compress(program_of("vgg"), CompressionSpec(compensation="calibration"))
    assert caught.value.code is ErrorCode.DATASET_TOO_SMALL


def test_samples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(IntraFusionError) as caught:
        compress(program_of("vgg"), HALF, Dataset((torch.randn(8, 1, 16, 16),)))
    assert caught.value.code is ErrorCode.DATASET_SHAPE_MISMATCH


def test_the_same_request_gives_the_same_bits() -> None:
    first, second = (compress(program_of("mobilenet"), HALF, samples()).program for _ in range(2))
    assert all(torch.equal(first.tensors[n], second.tensors[n]) for n in first.tensors)


def test_compensation_none_ignores_the_samples() -> None:
    spec = CompressionSpec(sparsity=0.5, compensation="none", importance="l1", allocation="uniform")
    with_samples = compress(program_of("vgg"), spec, samples())
    without = compress(program_of("vgg"), spec)
    assert with_samples.report.compensation.mode == "none"
    assert torch.equal(with_samples.program(example()), without.program(example()))


def test_inspect_lists_groups_and_reasons() -> None:
    report = inspect(program_of("vgg"))
    assert report.source == "module"
    assert [(g.name, g.units) for g in report.groups] == [
        ("features.0.weight", 8),
        ("features.4.weight", 12),
        ("features.8.weight", 16),
        ("classifier.0.weight", 20),
    ]
    assert report.coverage > 0.97
    assert report.inputs == ["float32[batch, 3, 16, 16]"]
    assert any(f.op == "output" for f in report.frozen)
    told = str(report).splitlines()
    assert told[0].startswith("module, ")
    assert "group features.8.weight: 16 units" in told
    assert any(line.startswith("frozen classifier.") for line in told)


def test_the_light_parts_need_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, intrafusion, intrafusion.spec, intrafusion.report, intrafusion.errors;"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert intrafusion.__version__


def test_groups_may_have_a_sparsity_of_their_own() -> None:
    spec = CompressionSpec(
        group_sparsity={"features.0.weight": 0.25, "classifier.*": 0}, compensation="none"
    )
    report = compress(program_of("vgg"), spec).report
    assert [(g.units, g.kept) for g in report.groups] == [(8, 6), (12, 6), (16, 16), (20, 20)]
