"""Error curves by trial."""

from __future__ import annotations

from dataclasses import replace

import pytest

from intrafusion import CompressionSpec, Dataset, ErrorCode, IntraFusionError, compress
from intrafusion.budget.measured import LEAST_ERROR, WIDTHS, measured
from intrafusion.channels import analyse
from intrafusion.folding import fold_batch_norm
from intrafusion.importance.context import Context, criterion_named
from tests.intrafusion.programs import copies, example, program_of


def test_curves_fall_to_nothing_and_show_which_group_is_redundant() -> None:
    analysis = analyse(fold_batch_norm(program_of("vgg")).program)
    second = analysis.groups[1]
    tensors = dict(analysis.program.tensors)
    for binding in second.bindings:
        lines = tensors[binding.tensor].movedim(binding.dim, 0).clone()
        lines[binding.index] = lines[binding.index[copies(second)]]
        tensors[binding.tensor] = lines.movedim(0, binding.dim).contiguous()
    analysis = replace(analysis, program=replace(analysis.program, tensors=tensors))
    context = Context(analysis, samples=(example(96, seed=5),))
    curves = measured(context, criterion_named("reconstruction"))
    assert set(curves) == set(analysis.groups)
    for group, curve in curves.items():
        assert curve.shape == (len(group) + 1,)
        assert bool((curve.diff() <= 1e-12).all())
        assert curve[-1] == 0
        for share in WIDTHS:
            assert curve[round(share * len(group))] >= LEAST_ERROR
    half = {group: float(curve[len(group) // 2]) for group, curve in curves.items()}
    # A half of these units are copies of the other half; the other groups have none.
    assert half.pop(second) < 0.05 * min(half.values())


@pytest.mark.parametrize("count", [1, 2])
def test_a_sample_or_two_are_enough_to_work(count: int) -> None:
    spec = CompressionSpec(parameters=0.5, allocation="measured", joint_steps=0)
    report = compress(program_of("resnet"), spec, Dataset((example(count),))).report
    assert report.after.parameters <= 0.51 * report.before.parameters


def test_without_samples_there_is_nothing_to_measure_on() -> None:
    with pytest.raises(IntraFusionError, match="'measured' needs samples") as caught:
        compress(program_of("vgg"), CompressionSpec(allocation="measured", compensation="none"))
    assert caught.value.code is ErrorCode.DATASET_TOO_SMALL
