"""The one place where the steps follow one another. It reads like a summary of the method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import intrafusion
from intrafusion import forecast
from intrafusion.arithmetic import exact
from intrafusion.budget.allocator import Allocator
from intrafusion.budget.latency import within_latency
from intrafusion.budget.rounding import multiples
from intrafusion.budget.search import report_of, smallest
from intrafusion.calibration import Dataset
from intrafusion.calibration.datasets import check_fits, load_dataset
from intrafusion.channels import Analysis, Group, analyse, remove
from intrafusion.checks import (
    check_finite,
    check_original,
    fit_warnings,
    no_sample_warnings,
    sample_warnings,
    search_warnings,
)
from intrafusion.clock import Clock
from intrafusion.compensation import joint, refit, restored_spread
from intrafusion.devices import chosen, wait_for
from intrafusion.dry_run import check_plannable
from intrafusion.evaluation import evaluate
from intrafusion.folding import Folded, fold_batch_norm
from intrafusion.fusion import fuse, selection_map
from intrafusion.heads import heads_of, turn_heads
from intrafusion.importance.context import Context
from intrafusion.inspection import group_report
from intrafusion.job import Job, job_of, with_made_samples
from intrafusion.methods import Task
from intrafusion.planning import plan_of
from intrafusion.program import Program
from intrafusion.program.precision import narrowed, widened
from intrafusion.report import (
    CompensationReport,
    CompressionReport,
    PlanReport,
    ProgressListener,
    SearchReport,
)
from intrafusion.rounds import units_due
from intrafusion.selection import check_any_selected
from intrafusion.spec import CompressionSpec


@dataclass(frozen=True)
class Compression:
    """A compressed program and the report on it."""

    program: Program
    report: CompressionReport


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
            samples are made from what batch norms remember, or the correction uses the weights
            alone, as `compensation` says.
        evaluation: samples on which both programs are measured, with labels for accuracy.
        device: where to work; `auto` takes a GPU where there is one. The result comes back to
            where `program` is.
        progress: called as the work goes on.

    Raises:
        IntraFusionError: `NOTHING_TO_PRUNE`, `DATASET_*` where samples do not fit the network,
            `BUDGET_UNREACHABLE` where no smaller network keeps to a budget of size or latency,
            `COMPRESSION_FAILED` when the result fails its self-check.
    """
    home, program = program.device, program.to(chosen(device))
    clock = Clock(progress, partial(wait_for, program.device))
    # Evaluation samples may be many, and are measured on some at a time: they stay where they are.
    samples, measured_on = _read(calibration, program), _read(evaluation, program)
    given = None if samples is None else samples.to(program.device)
    job = job_of(program, spec, given, measured_on, clock)
    with torch.no_grad(), exact():
        job, start = _prepared(job)
        made, search = _within_budget(job, start)
        with clock.step("evaluate"):
            result = evaluate(program, made.program, measured_on or job.judged_on, given)
    analysis, steps = start.context.analysis, multiples(start.context.analysis, spec)
    return Compression(
        made.program.to(home),
        CompressionReport(
            intrafusion_version=intrafusion.__version__,
            torch_version=torch.__version__,
            source=program.source,
            spec=spec,
            decided=made.spec,
            before=result.before,
            after=result.after,
            fidelity=result.fidelity,
            groups=[
                group_report(analysis, group, made.counts.get(group, len(group)), steps[group])
                for group in analysis.groups
            ],
            compensation=made.compensation,
            search=search,
            warnings=[
                *program.notes,
                *sample_warnings(samples, job.made),
                *no_sample_warnings(program, spec, made.compensation),
                *fit_warnings(made.compensation),
                *search_warnings(search, held_out=job.judged_on is not measured_on),
            ],
            seconds=clock.seconds,
        ),
    )


def plan(
    program: Program,
    spec: CompressionSpec,
    calibration: Dataset | str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    progress: ProgressListener = lambda progress: None,
) -> PlanReport:
    """What `compress` would remove, and how large the result would be, without making it.

    Args:
        program, spec, calibration, device, progress: as of `compress`. With samples the report
            says what error is expected; a `latency` is searched for, as it depends on sizes alone.

    Raises:
        IntraFusionError: as `compress` does; `INVALID_SPEC` for a budget that says what may be
            lost, since only a network that was made can be measured.
    """
    check_plannable(spec)
    program = program.to(chosen(device))
    clock = Clock(progress, partial(wait_for, program.device))
    samples = _read(calibration, program)
    given = None if samples is None else samples.to(program.device)
    job = job_of(program, spec, given, None, clock)
    with torch.no_grad(), exact():
        job, start = _prepared(job)
        counts, decided, search = _allocate(job, start)
        before, after = forecast.sizes(program, start.context, counts)
        groups = forecast.groups(start.context, job.criterion, decided, counts)
    errors = [group.expected_error for group in groups if group.expected_error is not None]
    return PlanReport(
        source=program.source,
        spec=spec,
        decided=decided,
        before=before,
        after=after,
        groups=groups,
        expected_error=sum(errors) if errors else None,
        search=search,
        warnings=[*program.notes, *sample_warnings(samples, job.made)],
    )


@dataclass(frozen=True)
class _View:
    """A program to make smaller, its batch norms folded, and what criteria may look at.

    `turned` are the groups of heads that have been turned in it.
    """

    program: Program
    folded: Folded
    context: Context
    turned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Made:
    """A smaller program, what each group keeps in it, how it was corrected, and by which spec."""

    program: Program
    counts: Mapping[Group, int]
    compensation: CompensationReport
    spec: CompressionSpec


def _prepared(job: Job) -> tuple[Job, _View]:
    """The original looked at and found to be in order, and `job` with all samples it needs."""
    start = _look(job, widened(job.program))
    check_original(start.program, start.folded.program, job.inputs)
    check_any_selected(start.context.analysis, job.spec)
    if job.makes_samples:
        job = with_made_samples(job)
        start = replace(start, context=replace(start.context, samples=job.inputs))
    return job, _turned(job, start)


def _look(job: Job, program: Program) -> _View:
    """Fold and analyse `program`."""
    with job.clock.step("fold"):
        folded = fold_batch_norm(program, epsilon=job.method.epsilon)
    with job.clock.step("analyse"):
        analysis = _analysed(job, folded.program)
    context = Context(analysis, folded.moments, job.spec.seed, job.inputs, job.labels)
    return _View(program, folded, context)


def _analysed(job: Job, program: Program) -> Analysis:
    return analyse(program, whole_heads=job.spec.attention == "heads")


def _turned(job: Job, view: _View) -> _View:
    """`view` with its heads turned, where units are chosen by what the others rebuild of them."""
    chosen = job.spec.importance == "reconstruction" and job.method.compensated
    heads = heads_of(view.context.analysis) if chosen else {}
    if job.inputs is None or not heads:
        return view
    with job.clock.step("turn heads"):
        turned = turn_heads(view.context.analysis, heads, job.inputs)
        folded = replace(view.folded, program=turned)
        context = replace(view.context, analysis=_analysed(job, turned))
    return replace(view, folded=folded, context=context, turned=frozenset(heads))


def _within_budget(job: Job, start: _View) -> tuple[_Made, SearchReport | None]:
    """The program that the budget asks for, and the tries if it had to be searched for."""
    if job.spec.limit is None:
        counts, spec, search = _allocate(job, start)
        return _make(replace(job, spec=spec), start, counts), search
    assert job.judged_on is not None
    kind, limit = job.spec.limit
    allocator = Allocator(start.context, job.criterion, job.spec)
    found = smallest(
        allocator,
        kind,
        limit,
        make=lambda counts: _make(job, start, counts),
        measure=lambda made: evaluate(
            job.program, made.program, job.judged_on, None, latency=False
        ),
        clock=job.clock,
    )
    search = report_of(allocator, found, job.judged_on)
    if found.made is None:
        spec = job.spec.model_copy(update={"joint_steps": 0})
        return _Made(job.program, {}, CompensationReport(mode="none"), spec), search
    spec = found.made.spec.model_copy(update={kind: None, job.spec.minimise: found.share})
    return replace(found.made, spec=spec), search


def _allocate(
    job: Job, start: _View
) -> tuple[Mapping[Group, int], CompressionSpec, SearchReport | None]:
    """What each group keeps, a spec that says so without a search, and the tries of a search."""
    allocator = Allocator(start.context, job.criterion, job.spec)
    if job.spec.latency is not None:
        limit = job.spec.latency
        fast = within_latency(allocator, limit, job.program, job.clock)
        spec = job.spec.model_copy(update={"latency": None, "macs": fast.share})
        search = SearchReport(budget="latency", limit=limit, minimised="macs", tries=fast.tries)
        return fast.counts, spec, search
    with job.clock.step("allocate"):
        return allocator.counts(job.spec.costs), job.spec, None


def _make(job: Job, start: _View, counts: Mapping[Group, int]) -> _Made:
    """The program of `start` with so many units in each group, corrected and checked."""
    view, compressed = start, start.program
    compensation = CompensationReport(mode="none")
    for number in range(1, job.spec.steps + 1):
        if number > 1:
            view = replace(_look(job, compressed), turned=start.turned)
        due = units_due(view.context.analysis, counts, number / job.spec.steps)
        if due:
            compressed, compensation = _round(job, view, due)
    compressed, compensation = _refit_jointly(job, start, compressed, compensation)
    compressed = narrowed(compressed, job.program)
    check_finite(compressed)
    spec = job.spec.model_copy(update={"joint_steps": compensation.joint_steps})
    return _Made(compressed, counts, compensation, spec)


def _round(
    job: Job, view: _View, counts: Mapping[Group, int]
) -> tuple[Program, CompensationReport]:
    """The program of `view` with so many units per group, and how its consumers were corrected."""
    spec, samples, clock = job.spec, job.refit_on, job.clock
    analysis, moments = view.context.analysis, view.folded.moments
    task = Task(view.context, counts, spec, job.criterion)
    maps = {}
    with clock.step("plan", len(counts)):
        for group, mapping in job.method.maps(task):
            if group.name in view.turned:
                # Their channels have nothing to say of each other, nor any to fuse.
                mapping = selection_map(mapping.kept, len(group))
            maps[group] = mapping
            clock.report(len(maps), len(counts))
    with clock.step("fuse"):
        corrected = samples is None and job.method.compensated
        stretches = restored_spread(analysis, maps, moments) if corrected else {}
        survivors = {group: mapping.kept for group, mapping in maps.items()}
        removal = remove(analysis, survivors, fuse(analysis, maps, stretches))
    compressed, compensation = removal.program, CompensationReport(mode="none")
    with clock.step("compensate"):
        if samples is not None:
            fitted = refit(
                analysis, removal, maps, samples.inputs, seed=spec.seed, progress=clock.report
            )
            compressed = replace(compressed, tensors=fitted.tensors)
            compensation = samples.report.model_copy(
                update={
                    "layers": fitted.layers,
                    "fit_error": fitted.fit_error,
                    "holdout_error": fitted.holdout_error,
                }
            )
    compressed = replace(compressed, plan=plan_of(view.program, view.folded, removal))
    return compressed, compensation


def _refit_jointly(
    job: Job, start: _View, compressed: Program, compensation: CompensationReport
) -> tuple[Program, CompensationReport]:
    """`compressed` refitted to the original's outputs, if there are samples to do so."""
    if job.refit_on is None:
        return compressed, compensation
    steps = job.spec.joint_steps
    if steps is None:
        most = joint.STEPS if job.spec.limit is None else joint.STEPS_OF_A_TRY
        steps = joint.affordable_steps(job.program, compressed, most)
    if not steps:
        return compressed, compensation
    with job.clock.step("refit jointly", steps):
        refitted = joint.refit_jointly(
            # Where layers are compared inside, both have to have the same axes.
            start.folded.program if start.turned else widened(job.program),
            compressed,
            job.refit_on.inputs,
            steps=steps,
            look_inside=compensation.made > 0,
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


def _read(given: Dataset | str | Path | None, program: Program) -> Dataset | None:
    """The samples, which must fit `program`."""
    if given is None:
        return None
    dataset = given if isinstance(given, Dataset) else load_dataset(Path(given))
    check_fits(dataset, program)
    return dataset
