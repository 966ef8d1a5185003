"""What could be pruned in a program, and what not and why."""

from __future__ import annotations

from intrafusion.channels import Analysis, Group, analyse
from intrafusion.evaluation import macs
from intrafusion.program import Program
from intrafusion.report import FrozenReport, GroupReport, InspectionReport


def inspect(program: Program) -> InspectionReport:
    """What could be pruned in `program`: its groups, and what is frozen and why."""
    analysis = analyse(program)
    return InspectionReport(
        source=program.source,
        parameters=program.parameter_count,
        macs=macs(program),
        inputs=[
            f"{str(x.dtype).removeprefix('torch.')}[{', '.join(['batch', *map(str, x.shape[1:])])}]"
            for x in program.example_inputs
        ],
        groups=[group_report(analysis, group, len(group)) for group in analysis.groups],
        frozen=[
            FrozenReport(
                parameter=f.tensor, dimension=f.dim, channels=f.channels, op=f.op, reason=f.reason
            )
            for f in analysis.frozen
        ],
        coverage=analysis.coverage,
        warnings=list(program.notes),
    )


def group_report(analysis: Analysis, group: Group, kept: int, round_to: int = 1) -> GroupReport:
    """What became of a group of the program of `analysis`: so many of its units were `kept`."""
    tensors = analysis.program.tensors
    touched = 0
    for binding in group.bindings:
        if binding.tensor in analysis.program.trainable:
            tensor = tensors[binding.tensor]
            touched += binding.index.numel() * (tensor.numel() // tensor.shape[binding.dim])
    return GroupReport(
        name=group.name,
        units=len(group),
        kept=kept,
        round_to=round_to,
        layers=[str(binding) for binding in group.bindings],
        parameter_share=touched / max(1, analysis.program.parameter_count),
        warnings=list(group.warnings),
    )
