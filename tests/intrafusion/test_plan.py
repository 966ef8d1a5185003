"""A plan says what a compression would do, and does not do it."""

from __future__ import annotations

import pytest

from intrafusion import CompressionSpec, Dataset, ErrorCode, IntraFusionError, compress, plan
from tests.intrafusion.programs import example, program_of
from tests.networks import NETWORKS

SAMPLES = Dataset((example(64, seed=7),))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "choices",
    [{"sparsity": 0.5}, {"parameters": 0.4, "allocation": "global"}, {"macs": 0.6, "round_to": 4}],
)
def test_a_plan_is_what_a_compression_does(name: str, choices: dict[str, object]) -> None:
    spec = CompressionSpec(joint_steps=0, **choices)
    planned = plan(program_of(name), spec, SAMPLES)
    done = compress(program_of(name), spec, SAMPLES).report
    assert [(g.name, g.units, g.kept) for g in planned.groups] == [
        (g.name, g.units, g.kept) for g in done.groups
    ]
    for ours, theirs in ((planned.before, done.before), (planned.after, done.after)):
        assert (ours.parameters, ours.macs) == (theirs.parameters, theirs.macs)
    assert planned.decided == done.decided


def test_the_expected_error_grows_with_what_goes() -> None:
    errors = []
    for sparsity in (0.25, 0.5, 0.75):
        planned = plan(program_of("vgg"), CompressionSpec(sparsity=sparsity), SAMPLES)
        own = [group.expected_error for group in planned.groups]
        assert planned.expected_error == pytest.approx(sum(own))
        errors.append(planned.expected_error)
    assert 0 < errors[0] < errors[1] < errors[2]


def test_without_samples_no_error_is_expected() -> None:
    planned = plan(program_of("vgg"), CompressionSpec(compensation="none"))
    assert planned.expected_error is None
    assert all(group.expected_error is None for group in planned.groups)


def test_a_latency_can_be_planned_and_a_loss_cannot() -> None:
    planned = plan(program_of("vgg"), CompressionSpec(latency=0.97, compensation="none"))
    assert planned.search is not None
    assert planned.decided.macs in [each.share for each in planned.search.tries]
    with pytest.raises(IntraFusionError) as caught:
        plan(program_of("vgg"), CompressionSpec(max_accuracy_drop=0.1), SAMPLES)
    assert caught.value.code is ErrorCode.INVALID_SPEC
