"""The lockstep run brings the compressed program back to what the original computes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from intrafusion import CompressionSpec, Dataset, compress, devices, load
from intrafusion.channels import analyse, remove
from intrafusion.compensation import lockstep, refit
from intrafusion.compensation.layers import affine
from intrafusion.folding import fold_batch_norm
from intrafusion.fusion import fuse, fusion_map, selection_map
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
        maps[group] = fusion_map(plan.to_sparse(), kept, "keep")
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
    maps = {g: selection_map(torch.arange(len(g)), len(g)) for g in analysis.groups}
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


@pytest.mark.parametrize("name", NETWORKS)
def test_an_infinite_ridge_leaves_plain_fusion(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Biases are free: they take the mean error, whatever the ridge.
    monkeypatch.setattr(lockstep, "RIDGE", 1e12)
    analysis, maps, removal = pruned(program_of(name))
    fitted = refit(analysis, removal, maps, (example(64, seed=3),))
    assert fitted.layers > 0
    for tensor in (n for n, t in removal.program.tensors.items() if t.dim() > 1):
        torch.testing.assert_close(
            fitted.tensors[tensor], removal.program.tensors[tensor], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_and_disk_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    analysis, maps, removal = pruned(program_of(name))
    samples = (example(24, seed=3),)  # few enough for every position to be looked at
    whole = refit(analysis, removal, maps, samples)
    monkeypatch.setattr(lockstep, "samples_at_a_time", lambda program, walk: 5)
    monkeypatch.setattr(devices, "ON_CPU", 0)
    parted = refit(analysis, removal, maps, samples)
    first, second = (replace(removal.program, tensors=f.tensors) for f in (whole, parted))
    assert distance(second, first) < 1e-3
    assert parted.holdout_error == pytest.approx(whole.holdout_error, rel=1e-3)


class Grouped(nn.Sequential):
    """A grouped and a transposed convolution between norms that cannot be folded."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 24, 3, padding=1, groups=4),
            nn.GELU(),
            nn.GroupNorm(4, 24),
            nn.ConvTranspose2d(24, 12, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(12, 12, 3, groups=12),
            nn.Conv2d(12, 5, 3),
        )


class Upward(nn.Sequential):
    """Transposed convolutions in groups: several outputs each, and one."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(16, 24, 3, stride=2, padding=1, groups=4),
            nn.GELU(),
            nn.ConvTranspose2d(24, 24, 2, groups=24),
            nn.GELU(),
            nn.ConvTranspose2d(24, 6, 3, stride=2, groups=2, bias=False),
        )


class Tokens(nn.Module):
    """A perceptron behind a layer norm, over the columns of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(48, 32)
        self.norm = nn.LayerNorm(32)
        self.mlp = nn.Sequential(nn.Linear(32, 40), nn.GELU(), nn.Linear(40, 32))
        self.head = nn.Linear(32, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images.permute(0, 3, 1, 2).flatten(2))
        return self.head(self.norm(tokens + self.mlp(tokens)).mean(1))


class OtherWayRound(nn.Module):
    """The same with weights (inputs, outputs)."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = list(pairwise([48, 32, 40, 5]))
        self.weights = nn.ParameterList(torch.randn(size) / size[0] ** 0.5 for size in self.sizes)
        self.biases = nn.ParameterList(0.1 * torch.randn(size[1]) for size in self.sizes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.permute(0, 3, 1, 2).reshape(-1, 48)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            tokens = torch.addmm(bias, torch.nn.functional.gelu(tokens), weight)
        return tokens.reshape(images.shape[0], 16, 5).mean(1)


@pytest.mark.parametrize(
    ("network", "layers"), [(Grouped, 5), (Upward, 3), (Tokens, 4), (OtherWayRound, 2)]
)
def test_layers_of_every_kind_are_refitted(network: type[nn.Module], layers: int) -> None:
    torch.manual_seed(0)
    program = load(network().eval(), input_shapes=[(1, 3, 16, 16)])
    analysis, maps, removal = pruned(program)
    fitted = refit(analysis, removal, maps, (example(256, seed=3),))
    corrected = replace(removal.program, tensors=fitted.tensors)
    assert fitted.layers >= layers
    assert distance(corrected, program) < 0.6 * distance(removal.program, program)


def test_transposed_groups_keep_their_fusion_under_an_infinite_ridge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No data say anything then, so what comes back is what went into the regression.
    monkeypatch.setattr(lockstep, "RIDGE", 1e12)
    torch.manual_seed(0)
    analysis, maps, removal = pruned(load(Upward().eval(), input_shapes=[(1, 3, 16, 16)]))
    fitted = refit(analysis, removal, maps, (example(64, seed=3),))
    assert fitted.layers == 3
    for name, tensor in removal.program.tensors.items():
        if tensor.dim() > 1:
            torch.testing.assert_close(fitted.tensors[name], tensor, rtol=1e-4, atol=1e-5)
