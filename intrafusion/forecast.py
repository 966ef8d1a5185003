"""What a compression would give, told from its numbers of units alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from intrafusion.budget import ALLOCATIONS, EXPECTING
from intrafusion.budget.rounding import multiples
from intrafusion.channels import Group, remove
from intrafusion.evaluation import macs
from intrafusion.importance.context import Context, Criterion
from intrafusion.inspection import group_report
from intrafusion.program import Program
from intrafusion.program.precision import narrowed
from intrafusion.report import GroupReport, Measurement
from intrafusion.spec import CompressionSpec


def sizes(
    original: Program, context: Context, counts: Mapping[Group, int]
) -> tuple[Measurement, Measurement]:
    """The exact sizes of `original` and of what is left of it with `counts` units per group."""
    kept = {group: torch.arange(count) for group, count in counts.items()}
    small = narrowed(remove(context.analysis, kept).program, original)
    before, after = (
        Measurement(parameters=program.parameter_count, macs=macs(program))
        for program in (original, small)
    )
    return before, after


def groups(
    context: Context, criterion: Criterion, spec: CompressionSpec, counts: Mapping[Group, int]
) -> list[GroupReport]:
    """What every group would keep, and with samples the error expected of it.

    The error is that of the allocation if it knows one, else that of `reconstruction`.
    """
    curves: Mapping[Group, torch.Tensor] = {}
    if context.samples is not None:
        known = spec.allocation if spec.allocation in EXPECTING else EXPECTING[0]
        curves = ALLOCATIONS.get(known)(context, criterion)
    steps = multiples(context.analysis, spec)
    reports = []
    for group in context.analysis.groups:
        kept = counts.get(group, len(group))
        expected = float(curves[group][kept]) if group in curves else None
        report = group_report(context.analysis, group, kept, steps[group])
        reports.append(report.model_copy(update={"expected_error": expected}))
    return reports
