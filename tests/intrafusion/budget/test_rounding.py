"""Widths that run fast, where the user names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from intrafusion import CompressionSpec, Program, load, plan
from intrafusion.budget import rounding
from intrafusion.budget.rounding import DEPTHWISE, WIDE
from tests.intrafusion.programs import program_of

MOBILENET = Path(__file__).parents[3] / "examples" / "fashion_mobilenet.pt"


@pytest.fixture(scope="module")
def mobilenet() -> Program:
    return load(MOBILENET, input_shapes=[(1, 1, 28, 28)])


@pytest.mark.parametrize("budget", [{"sparsity": 0.6}, {"parameters": 0.4}, {"macs": 0.4}])
def test_wide_depthwise_groups_keep_multiples(mobilenet: Program, budget: dict[str, float]) -> None:
    groups = plan(
        mobilenet, CompressionSpec(allocation="global", compensation="none", **budget)
    ).groups
    rounded = [group for group in groups if group.round_to > 1]
    assert rounded
    for group in rounded:
        assert group.units >= WIDE
        assert group.round_to == DEPTHWISE
        assert group.kept % DEPTHWISE == 0 or group.kept == group.units
    others = [group for group in groups if group.round_to == 1]
    assert any(group.kept % 4 for group in others)


def test_what_the_user_says_counts(mobilenet: Program) -> None:
    groups = plan(mobilenet, CompressionSpec(sparsity=0.6, round_to=1, compensation="none")).groups
    assert all(group.round_to == 1 for group in groups)
    assert [group.kept for group in groups] == [
        group.units - round(group.units * 0.6) for group in groups
    ]


@pytest.mark.parametrize("name", ["vgg", "mobilenet"])
def test_narrow_groups_and_other_layers_are_not_rounded(name: str) -> None:
    groups = plan(program_of(name), CompressionSpec(sparsity=0.6, compensation="none")).groups
    assert all(group.round_to == 1 for group in groups)


def test_wide_groups_are_aligned_where_the_device_asks_for_it(
    mobilenet: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "ALIGNED", {"cpu": 8})
    spec = CompressionSpec(sparsity=0.6, compensation="none")
    wide = [group for group in plan(mobilenet, spec).groups if group.units >= WIDE]
    narrow = [group for group in plan(mobilenet, spec).groups if group.units < WIDE]
    assert {group.round_to for group in wide} == {8, DEPTHWISE}
    assert all(group.kept % group.round_to == 0 for group in wide)
    assert all(group.round_to == 1 for group in narrow)
