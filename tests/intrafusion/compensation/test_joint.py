"""The joint refit: outputs come nearer to the original's, or the program stays as it was."""

from __future__ import annotations

import pytest
import torch

from intrafusion import CompressionSpec, Dataset, compress
from intrafusion.compensation import joint
from intrafusion.compensation.descent import macs_of_a_step
from intrafusion.compensation.joint import affordable_batch, affordable_steps, refit_jointly
from intrafusion.effort import AFFORDABLE
from intrafusion.evaluation import macs
from intrafusion.program import Program
from tests.intrafusion.compensation.insides import insides
from tests.intrafusion.programs import example, program_of

SAMPLES = Dataset((example(64, seed=7),))


def fused(program: Program) -> Program:
    """Half of all units, and no samples seen."""
    return compress(program, CompressionSpec(compensation="none")).program


def distance(a: Program, b: Program) -> float:
    inputs = example(64, seed=8)
    wanted = b.outputs(inputs)[0]
    return float((a.outputs(inputs)[0] - wanted).square().mean() / wanted.var())


def test_outputs_come_nearer_on_samples_it_never_saw() -> None:
    program = program_of("resnet")
    compressed = fused(program)
    refitted = refit_jointly(program, compressed, SAMPLES.inputs, steps=60)
    assert refitted.error_after < refitted.error_before
    assert distance(refitted.program, program) < 0.95 * distance(compressed, program)
    assert distance(compressed, fused(program)) == 0  # what was given is not touched


def test_the_same_seed_gives_the_same_bits() -> None:
    program = program_of("vgg")
    compressed = fused(program)
    first, second = (
        refit_jointly(program, compressed, SAMPLES.inputs, steps=12, seed=3).program.tensors
        for _ in range(2)
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_what_gets_worse_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "RATE", 10.0)
    program = program_of("vgg")
    compressed = fused(program)
    refitted = refit_jointly(program, compressed, SAMPLES.inputs, steps=5)
    assert refitted.program is compressed
    assert refitted.error_after == refitted.error_before


def test_it_runs_unasked_as_long_as_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of("vgg")
    sample, moving = 4 * macs(program), macs_of_a_step(program.tensors.values())
    for steps, batch in ((1000, 64), (1000, 30), (200, 16)):
        monkeypatch.setitem(AFFORDABLE, "cpu", (sample * (batch + 0.5) + moving) * steps)
        assert affordable_steps(program, program) == pytest.approx(steps, rel=0.05)
        assert affordable_batch(program, program, steps) == pytest.approx(batch, abs=1)
        assert affordable_steps(program, program, 100) == 100
    monkeypatch.setitem(AFFORDABLE, "cpu", sample * joint.SMALLEST_BATCH * 50)
    assert affordable_steps(program, program) == 0


def test_a_number_of_steps_may_be_asked_for() -> None:
    few = Dataset((example(4),))
    report = compress(program_of("vgg"), CompressionSpec(joint_steps=7), few).report
    assert report.compensation.joint_steps == 7
    assert report.compensation.output_error_after is not None
    assert "refit jointly" in report.seconds


def test_looking_inside_brings_near_what_layers_read() -> None:
    program = program_of("resnet")
    compressed = fused(program)

    def distance_inside(changed: Program) -> float:
        pairs = insides(program, changed, example(64, seed=8))
        return sum(float((x - y).square().mean() / x.var()) for x, y in pairs) / len(pairs)

    plain, inside = (
        refit_jointly(program, compressed, SAMPLES.inputs, steps=60, look_inside=look).program
        for look in (False, True)
    )
    assert distance_inside(inside) < 0.7 * distance_inside(plain)
    assert distance(inside, program) < distance(compressed, program)
