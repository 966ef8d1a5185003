"""The two maps of a plan, and what they keep."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intrafusion.channels import Role, analyse, remove
from intrafusion.fusion import FusionMap, fuse, fusion_map, selection_map
from intrafusion.transport.plan import survivor_plan
from tests.intrafusion.programs import (
    duplicated,
    example,
    halves,
    program_of,
    relative_error,
    without_copies,
    zeroed,
)
from tests.networks import NETWORKS


def random_map(n: int, m: int, seed: int = 0) -> FusionMap:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.randperm(n, generator=generator)[:m].sort().values
    cost = torch.rand(n - m, m, generator=generator, dtype=torch.float64)
    return fusion_map(survivor_plan(cost.numpy(), kept.numpy(), n), kept, "mean")


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_rows_of_both_maps_sum_to_one(size: tuple[int, int]) -> None:
    mapping = random_map(*size)
    torch.testing.assert_close(mapping.producer.to_dense().sum(1), torch.ones(size[1]).double())
    torch.testing.assert_close(mapping.consumer.to_dense().sum(1), torch.ones(size[0]).double())


def test_keeping_producers_selects_them() -> None:
    plan = torch.full((4, 2), 1 / 8, dtype=torch.float64).to_sparse()
    mapping = fusion_map(plan, torch.tensor([1, 3]), "keep")
    assert mapping.producer.to_dense().tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("name", NETWORKS)
def test_fusing_exact_copies_is_lossless(name: str) -> None:
    program = duplicated(analyse(program_of(name)))
    smaller = without_copies(analyse(program))
    assert relative_error(smaller(example(5)), program(example(5))) <= 1e-5


def test_fusing_without_loss_of_units_changes_nothing() -> None:
    analysis = analyse(program_of("resnet"))
    maps = {group: random_map(len(group), len(group)) for group in analysis.groups}
    fused = fuse(analysis, maps)
    for name, tensor in analysis.program.tensors.items():
        torch.testing.assert_close(fused[name], tensor)


def test_selection_with_nothing_transported_is_plain_removal() -> None:
    analysis = analyse(program_of("vgg"))
    kept = halves(analysis)
    maps = {}
    for group, staying in kept.items():
        maps[group] = selection_map(staying, len(group))
    smaller = remove(analysis, kept, fuse(analysis, maps)).program
    reference = zeroed(analysis, kept)
    assert relative_error(smaller(example()), reference(example())) <= 1e-5


def test_producers_are_means_and_consumers_sums() -> None:
    analysis = analyse(program_of("vgg"))
    group = analysis.groups[0]
    plan = torch.zeros(8, 4, dtype=torch.float64)
    plan[torch.arange(8), torch.arange(8) % 4] = 1 / 8
    fused = fuse(analysis, {group: fusion_map(plan.to_sparse(), torch.arange(4), "mean")})
    for binding in group.bindings:
        before = analysis.program.tensors[binding.tensor].movedim(binding.dim, 0)
        after = fused[binding.tensor].movedim(binding.dim, 0)
        total = before[:4] + before[4:]
        expected = total if binding.role is Role.CONSUMER else total / 2
        torch.testing.assert_close(after[:4], expected)
