"""The one place where the steps follow one another. It reads like a summary of the method."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

import intrafusion
from intrafusion.budget.counts import counts, need_of_allocation
from intrafusion.calibration import Dataset
from intrafusion.calibration.datasets import check_fits, load_dataset
from intrafusion.channels import Analysis, Group, analyse, remove
from intrafusion.compensation import refit, restore_variance
from intrafusion.compensation.joint import affordable_steps, refit_jointly
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.evaluation import evaluate, macs
from intrafusion.folding import Folded, fold_batch_norm
from intrafusion.fusion import fuse
from intrafusion.importance.context import Context, Criterion, check_need, criterion_named
from intrafusion.methods import METHODS, Method, Task
from intrafusion.planning import plan_of
from intrafusion.program import Program
from intrafusion.program.precision import narrowed, wide, widened
from intrafusion.report import (
    CompensationReport,
    CompressionReport,
    FrozenReport,
    GroupReport,
    InspectionReport,
    Progress,
    ProgressListener,
    Step,
)
from intrafusion.spec import CompressionSpec


@dataclass(frozen=True)
class Compression:
    """A compressed program and the report on it."""

    program: Program
    report: CompressionReport


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
        groups=[_group_report(analysis, group, len(group)) for group in analysis.groups],
        frozen=[
            FrozenReport(
                parameter=f.tensor, dimension=f.dim, channels=f.channels, op=f.op, reason=f.reason
            )
            for f in analysis.frozen
        ],
        coverage=analysis.coverage,
        warnings=list(program.notes),
    )


def compress(
    program: Program,
    spec: CompressionSpec,
    calibration: Dataset | str | Path | None = None,
    evaluation: Dataset | str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    progress: ProgressListener = lambda progress: None,
) -> Compression:
    """Make `program` smaller by fusing the units of its groups (Theus et al., ICLR 2024).

    Args:
        program: what `load` gave.
        spec: what to do.
        calibration: samples on which consumers are refitted, and which some importances look at;
            labels only where the importance needs them. A path is read with `load_dataset`. None:
            the correction uses the weights alone.
        evaluation: samples on which both programs are measured, with labels for accuracy.
        device: where to work; `auto` takes a GPU where there is one.
        progress: called as the work goes on.

    Raises:
        IntraFusionError: `NOTHING_TO_PRUNE`, `DATASET_*` where samples do not fit the network,
            `COMPRESSION_FAILED` when the result fails its self-check.
    """
    clock = _Clock(progress)
    program = program.to(_device(device))
    given = _dataset(calibration, program)
    measured_on = _dataset(evaluation, program)
    job = _job(spec, given, clock)
    compressed, compensation = widened(program), CompensationReport(mode="none")
    with torch.no_grad():
        for number in range(1, spec.steps + 1):
            with clock.step("fold"):
                folded = fold_batch_norm(compressed, epsilon=job.method.epsilon)
            with clock.step("analyse"):
                analysis = analyse(folded.program, whole_heads=spec.attention == "heads")
            context = Context(analysis, folded.moments, spec.seed, job.inputs, job.labels)
            if number == 1:
                with clock.step("allocate"):
                    first, wanted = analysis, counts(context, job.criterion, job.spec)
            due = _due(analysis, wanted, number / spec.steps)
            if due:
                compressed, compensation = _round(job, compressed, folded, context, due)
        compressed, compensation = _refit_jointly(job, program, compressed, compensation)
        compressed = narrowed(compressed, program)
        _check_finite(compressed)
        with clock.step("evaluate"):
            result = evaluate(program, compressed, measured_on, given)
    return Compression(
        compressed,
        CompressionReport(
            intrafusion_version=intrafusion.__version__,
            torch_version=torch.__version__,
            source=program.source,
            spec=spec,
            before=result.before,
            after=result.after,
            fidelity=result.fidelity,
            groups=[
                _group_report(first, group, wanted.get(group, len(group))) for group in first.groups
            ],
            compensation=compensation,
            warnings=[*program.notes, *_fit_warnings(compensation)],
            seconds=clock.seconds,
        ),
    )


@dataclass(frozen=True)
class _Job:
    """What all rounds share.

    Attributes:
        spec: the user's choices, and what stands behind their names:
        method: how units become fewer.
        criterion: that scores units.
        inputs: the calibration samples, as the folded program computes, for criteria to look at.
        labels: theirs.
        samples: the same inputs if consumers are to be refitted on them.
        clock: that is told how far the work is.
    """

    spec: CompressionSpec
    method: Method
    criterion: Criterion
    inputs: tuple[Tensor, ...] | None
    labels: Tensor | None
    samples: tuple[Tensor, ...] | None
    clock: _Clock


def _job(spec: CompressionSpec, given: Dataset | None, clock: _Clock) -> _Job:
    """Check that what the choices need is there, before any work."""
    spec = _decided(spec, samples=given is not None)
    method, criterion = METHODS[spec.method], criterion_named(spec.importance)
    inputs = None if given is None else tuple(wide(x) for x in given.inputs)
    labels = None if given is None else given.labels
    for choice, need in (
        (f"importance {spec.importance!r}", criterion.needs),
        (f"allocation {spec.allocation!r}", need_of_allocation(spec.allocation)),
    ):
        check_need(choice, need, samples=given is not None, labels=labels is not None)
    if spec.compensation == "calibration" and given is None:
        raise IntraFusionError(
            ErrorCode.DATASET_TOO_SMALL,
            "compensation 'calibration' needs calibration samples, and there are none.",
            "Give a calibration set, or choose compensation 'auto' or 'none'.",
        )
    refitted = spec.compensation == "calibration" or (
        spec.compensation == "auto" and method.compensated
    )
    return _Job(spec, method, criterion, inputs, labels, inputs if refitted else None, clock)


def _decided(spec: CompressionSpec, *, samples: bool) -> CompressionSpec:
    """`spec` with what `auto` stands for."""
    rebuilds = samples and spec.method != "intra-fusion-published"
    importance, allocation = spec.importance, spec.allocation
    if importance == "auto":
        importance = "reconstruction" if rebuilds else "l1"
    if allocation == "auto":
        allocation = "reconstruction" if rebuilds else "uniform"
    return spec.model_copy(update={"importance": importance, "allocation": allocation})


def _round(
    job: _Job, program: Program, folded: Folded, context: Context, counts: Mapping[Group, int]
) -> tuple[Program, CompensationReport]:
    """`program` with so many units in each group, and how its consumers were corrected."""
    spec, samples, clock, analysis = job.spec, job.samples, job.clock, context.analysis
    producers = spec.producers
    if producers == "auto":
        producers = "mean" if samples is None else "keep"
    maps = {}
    with clock.step("plan", len(counts)):
        for group, mapping in job.method.maps(
            Task(context, counts, spec, job.criterion, producers)
        ):
            maps[group] = mapping
            clock.report(len(maps), len(counts))
    with clock.step("fuse"):
        tensors = fuse(analysis, maps)
        if samples is None and job.method.compensated:
            tensors = restore_variance(analysis, maps, tensors, folded.moments)
        survivors = {group: mapping.kept for group, mapping in maps.items()}
        removal = remove(analysis, survivors, tensors)
    compressed, compensation = removal.program, CompensationReport(mode="none")
    with clock.step("compensate"):
        if samples is not None:
            fitted = refit(analysis, removal, maps, samples, seed=spec.seed, progress=clock.report)
            compressed = replace(compressed, tensors=fitted.tensors)
            compensation = CompensationReport(
                mode="calibration",
                samples=len(samples[0]),
                layers=fitted.layers,
                fit_error=fitted.fit_error,
                holdout_error=fitted.holdout_error,
            )
    compressed = replace(compressed, plan=plan_of(program, folded, removal))
    return compressed, compensation


def _refit_jointly(
    job: _Job, program: Program, compressed: Program, compensation: CompensationReport
) -> tuple[Program, CompensationReport]:
    """`compressed` refitted to the outputs of `program`, if there are samples to do so."""
    if job.samples is None:
        return compressed, compensation
    steps = job.spec.joint_steps
    if steps is None:
        steps = affordable_steps(macs(program), macs(compressed))
    if not steps:
        return compressed, compensation
    with job.clock.step("refit jointly", steps):
        refitted = refit_jointly(
            widened(program),
            compressed,
            job.samples,
            steps=steps,
            seed=job.spec.seed,
            progress=job.clock.report,
        )
    return refitted.program, compensation.model_copy(
        update={
            "joint_steps": steps,
            "output_error_before": refitted.error_before,
            "output_error_after": refitted.error_after,
        }
    )


@dataclass
class _Clock:
    """Tells the listener where the work is, and keeps the seconds each step took in all rounds."""

    listener: ProgressListener
    seconds: dict[str, float] = field(default_factory=dict)
    at: Progress = field(default_factory=lambda: Progress("load", 0, 1))

    @contextmanager
    def step(self, step: Step, total: int = 1) -> Iterator[None]:
        self.at = Progress(step, 0, total)
        self.listener(self.at)
        start = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0) + time.perf_counter() - start
        if self.at.done < self.at.total:
            self.report(self.at.total, self.at.total)

    def report(self, done: int, total: int) -> None:
        self.at = Progress(self.at.step, done, total)
        self.listener(self.at)


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _dataset(given: Dataset | str | Path | None, program: Program) -> Dataset | None:
    if given is None:
        return None
    dataset = given if isinstance(given, Dataset) else load_dataset(Path(given))
    check_fits(dataset, program)
    labels = None if dataset.labels is None else dataset.labels.to(program.device)
    return replace(
        dataset, inputs=tuple(x.to(program.device) for x in dataset.inputs), labels=labels
    )


def _due(analysis: Analysis, wanted: Mapping[Group, int], share: float) -> dict[Group, int]:
    """What each group keeps when that share of the units that shall go in the end has gone.

    Args:
        analysis: of the program as it is now.
        wanted: what the original's groups keep in the end.
        share: 1 in the last round.
    """
    due = {
        _layout(group): len(group) - round((len(group) - keep) * share)
        for group, keep in wanted.items()
    }
    lost = {layout for layout, keep in due.items() if keep > 1} - set(map(_layout, analysis.groups))
    if lost:
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            f"After a round, the group of {min(lost)[0][0]} is no longer found as it was.",
            "Set steps to 1, and report this network.",
        )
    return {
        group: due[_layout(group)]
        for group in analysis.groups
        if due.get(_layout(group), len(group)) < len(group)
    }


def _layout(group: Group) -> tuple[tuple[str, int], ...]:
    """What makes a group the same one after units have gone: where its units stand, how often."""
    return tuple((str(binding), binding.index.shape[1]) for binding in group.bindings)


def _check_finite(program: Program) -> None:
    broken = [
        name
        for name, tensor in program.tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if broken:
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            f"{broken[0]} came out with NaN or infinity.",
            "Exclude the groups that run through it, and report this network.",
            tensors=broken,
        )


def _fit_warnings(compensation: CompensationReport) -> list[str]:
    fit, holdout = compensation.fit_error, compensation.holdout_error
    if fit is not None and holdout is not None and holdout > 2 * fit + 0.02:
        text = (
            f"The refit is good on the calibration samples (error {fit:.1%}) and bad on those held "
            f"out ({holdout:.1%}): give more, or more varied, samples."
        )
        return [text]
    return []


def _group_report(analysis: Analysis, group: Group, kept: int) -> GroupReport:
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
        layers=[str(binding) for binding in group.bindings],
        parameter_share=touched / max(1, analysis.program.parameter_count),
        warnings=list(group.warnings),
    )
