"""Budgets as users name them, on a residual net."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from intrafusion import CompressionReport, CompressionSpec, Dataset, ErrorCode, IntraFusionError
from intrafusion import compress as run
from tests.intrafusion.programs import example, program_of

SAMPLES = Dataset((example(64, seed=7),))


def compressed(**choices: object) -> CompressionReport:
    return run(program_of("resnet"), CompressionSpec(joint_steps=0, **choices), SAMPLES).report


@pytest.mark.parametrize("allocation", ["uniform", "global", "reconstruction", "measured"])
@pytest.mark.parametrize("kind", ["parameters", "macs"])
def test_a_budget_is_kept_and_used(allocation: str, kind: str) -> None:
    report = compressed(allocation=allocation, **{kind: 0.4})
    left = getattr(report.after, kind) / getattr(report.before, kind)
    assert 0.33 < left <= 0.405


@pytest.mark.parametrize("allocation", ["global", "reconstruction", "measured"])
def test_a_sparsity_is_met_to_the_unit_by_any_allocation(allocation: str) -> None:
    even = compressed(sparsity=0.4, allocation="uniform")
    uneven = compressed(sparsity=0.4, allocation=allocation)
    assert sum(g.kept for g in even.groups) == sum(g.kept for g in uneven.groups)


def test_a_sparsity_of_its_own_stands_beside_a_budget() -> None:
    name = compressed(sparsity=0.5).groups[0].name
    report = compressed(parameters=0.5, group_sparsity={name: 0.25})
    assert report.groups[0].kept == round(report.groups[0].units * 0.75)
    assert report.after.parameters <= 0.505 * report.before.parameters


def test_kept_units_are_multiples() -> None:
    report = compressed(macs=0.5, round_to=4)
    assert all(g.kept % 4 == 0 or g.kept == g.units for g in report.groups)
    assert any(g.kept < g.units for g in report.groups)


def test_a_budget_that_cannot_be_met_says_what_can() -> None:
    with pytest.raises(IntraFusionError, match="smallest network") as caught:
        compressed(parameters=0.0001)
    assert caught.value.code is ErrorCode.BUDGET_UNREACHABLE


@pytest.mark.parametrize("allocation", ["uniform", "reconstruction"])
def test_all_of_several_budgets_are_kept_and_the_tightest_used(allocation: str) -> None:
    report = compressed(allocation=allocation, parameters=0.5, macs=0.3, sparsity=0.3)
    left = report.after.macs / report.before.macs
    assert 0.25 < left <= 0.3
    assert report.after.parameters <= 0.5 * report.before.parameters
    assert sum(g.kept for g in report.groups) <= 0.7 * sum(g.units for g in report.groups) + 1


@pytest.mark.parametrize("allocation", ["uniform", "reconstruction"])
def test_a_budget_that_another_keeps_anyway_changes_nothing(allocation: str) -> None:
    alone = compressed(allocation=allocation, macs=0.3)
    both = compressed(allocation=allocation, macs=0.3, parameters=0.99)
    assert [g.kept for g in both.groups] == [g.kept for g in alone.groups]


def test_a_budget_that_is_searched_for_stands_alone() -> None:
    with pytest.raises(ValidationError, match="latency is searched for alone"):
        CompressionSpec(latency=0.5, macs=0.5)
