"""The lockstep run brings the compressed program back to what the original computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from intrafusion import CompressionSpec, Dataset, compress
from intrafusion.channels import analyse, remove
from intrafusion.compensation import refit
from intrafusion.compensation.layers import affine
from intrafusion.folding import fold_batch_norm
from intrafusion.fusion import FusionMap, fuse, fusion_map
from intrafusion.program import Program
from tests.intrafusion.programs import example, program_of, relative_error
from tests.networks import NETWORKS


def pruned(program: Program):  # type: ignore[no-untyped-def]
    """Every second unit kept as it is, and nothing done about it."""
    analysis = analyse(fold_batch_norm(program).program)
    maps = {}
    for group in analysis.groups:
        n = len(group)
        kept = torch.arange(0, n, 2)
        plan = torch.zeros(n, len(kept), dtype=torch.float64)
        plan[torch.arange(n), torch.arange(n) // 2] = 1 / n
        maps[group] = fusion_map(plan, kept, "keep")
    kept_units = {group: mapping.kept for group, mapping in maps.items()}
    return analysis, maps, remove(analysis, kept_units, fuse(analysis, maps))


def distance(a: Program, b: Program) -> float:
    x = example(200, seed=9)
    return float((a(x) - b(x)).norm() / b(x).norm())


@pytest.mark.parametrize("name", NETWORKS)
def test_refitting_more_than_halves_the_output_distance(name: str) -> None:
    program = program_of(name)
    analysis, maps, removal = pruned(program)
    fitted = refit(analysis, removal, maps, (example(256, seed=3),))
    corrected = replace(removal.program, tensors=fitted.tensors)
    assert distance(corrected, program) < 0.5 * distance(removal.program, program)
    assert fitted.fit_error is not None
    assert fitted.holdout_error is not None
    assert 0 < fitted.fit_error < 1
    assert 0 < fitted.holdout_error < 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_that_lost_nothing_is_left_as_it_is(name: str) -> None:
    analysis = analyse(program_of(name))
    maps = {}
    for group in analysis.groups:
        eye = torch.eye(len(group), dtype=torch.float64)
        maps[group] = FusionMap(torch.arange(len(group)), eye, eye, torch.ones(len(group)))
    removal = remove(analysis, {group: m.kept for group, m in maps.items()}, fuse(analysis, maps))
    fitted = refit(analysis, removal, maps, (example(16),))
    assert fitted.layers == 0
    assert all(torch.equal(fitted.tensors[n], t) for n, t in analysis.program.tensors.items())


def test_wide_layers_are_refitted_by_one_matrix_for_all_taps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = program_of("resnet")
    analysis, maps, removal = pruned(program)
    samples = (example(256, seed=3),)
    monkeypatch.setattr(affine, "WIDE", 10)
    fitted = refit(analysis, removal, maps, samples)
    corrected = replace(removal.program, tensors=fitted.tensors)
    assert distance(corrected, program) < 0.6 * distance(removal.program, program)


def test_few_samples_have_no_holdout() -> None:
    analysis, maps, removal = pruned(program_of("vgg"))
    fitted = refit(analysis, removal, maps, (example(5),))
    assert fitted.holdout_error is None
    assert all(bool(torch.isfinite(t).all()) for t in fitted.tensors.values())


def test_the_same_seed_gives_the_same_bits() -> None:
    analysis, maps, removal = pruned(program_of("resnet"))
    first, second = (
        refit(analysis, removal, maps, (example(300, seed=1),), seed=5) for _ in range(2)
    )
    assert all(torch.equal(first.tensors[n], second.tensors[n]) for n in first.tensors)


def test_constant_samples_give_no_nan() -> None:
    samples = Dataset((torch.full((32, 3, 16, 16), 0.5),))
    result = compress(program_of("concat"), CompressionSpec(sparsity=0.5), samples)
    assert bool(torch.isfinite(result.program(example())).all())


def test_fused_channels_get_their_spread_back() -> None:
    # Averaging independent units shrinks them; without data the norms' γ tells by how much.
    program = program_of("vgg")
    corrected = compress(program, CompressionSpec(compensation="none")).program
    spread = corrected(example(200)).std() / program(example(200)).std()
    analysis = analyse(fold_batch_norm(program).program)
    assert 0.6 < float(spread) < 1.6
    assert relative_error(corrected(example()), program(example())) > 1e-3
    assert len(analysis.groups) == 4
