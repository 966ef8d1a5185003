"""What a compression is asked to do, decided: a method, a criterion, and samples to work on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from intrafusion.budget.allocator import need_of_allocation
from intrafusion.budget.search import judges
from intrafusion.calibration import Dataset, inversion
from intrafusion.clock import Clock
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.importance.context import Criterion, check_need, criterion_named
from intrafusion.methods import METHODS, Method
from intrafusion.program import Program
from intrafusion.program.precision import wide, widened
from intrafusion.report import CompensationReport
from intrafusion.spec import Compensation, CompressionSpec


@dataclass(frozen=True)
class Job:
    """What all rounds share.

    Attributes:
        program: the original.
        spec: the user's choices with what `auto` stands for, and what stands behind their names:
        method: how units become fewer.
        criterion: that scores units.
        inputs: the calibration samples, as the folded program computes, for criteria to look at.
        labels: theirs.
        refit_on: what consumers are to be corrected by; None: they are not.
        judged_on: what networks are measured on while one within a limit is searched for.
        clock: that is told how far the work is.
    """

    program: Program
    spec: CompressionSpec
    method: Method
    criterion: Criterion
    inputs: tuple[Tensor, ...] | None
    labels: Tensor | None
    refit_on: Samples | None
    judged_on: Dataset | None
    clock: Clock

    @property
    def makes_samples(self) -> bool:
        """Whether the network has to make samples, alone or beside those given."""
        return self.spec.compensation in ("inversion", "both")

    @property
    def made(self) -> int:
        """How many samples it has made."""
        return 0 if self.refit_on is None else self.refit_on.report.made


@dataclass(frozen=True)
class Samples:
    """What consumers are refitted on: one tensor per input, and what the report says of them."""

    inputs: tuple[Tensor, ...]
    report: CompensationReport


def job_of(
    program: Program,
    spec: CompressionSpec,
    given: Dataset | None,
    measured_on: Dataset | None,
    clock: Clock,
) -> Job:
    """Decide what is left open, and check that what the choices need is there, before any work.

    Args:
        program: the original.
        spec: what the user asked for.
        given: calibration samples, if there are any.
        measured_on: evaluation samples, if there are any.
        clock: that is told how far the work is.
    """
    judged_on = None
    if spec.limit is not None:
        given, judged_on = judges(spec.limit[0], given, measured_on)
    if spec.compensation in ("calibration", "both") and given is None:
        raise IntraFusionError(
            ErrorCode.DATASET_TOO_SMALL,
            f"compensation {spec.compensation!r} needs calibration samples, and there are none.",
            "Give a calibration set, or choose compensation 'auto', 'inversion' or 'none'.",
        )
    if spec.compensation in ("inversion", "both") and (obstacle := inversion.obstacle(program)):
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            f"compensation {spec.compensation!r} cannot make samples, because {obstacle}.",
            "Give a calibration set, or choose compensation 'auto' or 'none'.",
        )
    spec = _decided(program, spec, samples=0 if given is None else len(given))
    criterion = criterion_named(spec.importance)
    inputs = None if given is None else tuple(wide(x) for x in given.inputs)
    labels = None if given is None else given.labels
    for choice, need in (
        (f"importance {spec.importance!r}", criterion.needs),
        (f"allocation {spec.allocation!r}", need_of_allocation(spec.allocation)),
    ):
        check_need(
            choice,
            need,
            samples=given is not None or spec.compensation == "inversion",
            labels=labels is not None,
        )
    refit_on = None  # what is made is made later, once it is known that there is work to do
    if spec.compensation in ("calibration", "both") and inputs is not None:
        report = CompensationReport(mode=spec.compensation, samples=len(inputs[0]))
        refit_on = Samples(inputs, report)
    return Job(
        program, spec, METHODS[spec.method], criterion, inputs, labels, refit_on, judged_on, clock
    )


def with_made_samples(job: Job) -> Job:
    """`job` with samples made by the program itself, beside those that there are to refit on.

    They are also looked at, unless there are others or these have labels to be looked at with.
    """
    with job.clock.step("synthesise"):
        made = inversion.invert(widened(job.program), seed=job.spec.seed, progress=job.clock.report)
    samples, given = made.samples, job.refit_on
    if given is not None:
        samples = tuple(torch.cat(each) for each in zip(given.inputs, made.samples, strict=True))
    report = CompensationReport(
        mode=job.spec.compensation,
        made_from=made.made_from,
        samples=len(samples[0]),
        made=len(made.samples[0]),
        statistics_error=made.statistics_error,
    )
    looked_at = job.inputs
    if looked_at is None or (given is not None and job.criterion.needs != "labels"):
        looked_at = samples
    return replace(job, inputs=looked_at, refit_on=Samples(samples, report))


def _decided(program: Program, spec: CompressionSpec, *, samples: int) -> CompressionSpec:
    """`spec` with what `auto` stands for; `joint_steps` is left to the sizes of the programs."""
    compensation = spec.compensation
    if compensation == "auto":
        compensation = _best_compensation(program, spec, samples)
    refits = compensation != "none"
    rebuilds = (samples or refits) and spec.method != "intra-fusion-published"
    chosen = {
        "importance": "reconstruction" if rebuilds else "l1",
        "allocation": "reconstruction" if rebuilds else "uniform",
        "compensation": compensation,
        "producers": "keep" if refits else "mean",
    }
    open_ = {name: choice for name, choice in chosen.items() if getattr(spec, name) == "auto"}
    return spec.model_copy(update=open_)


def _best_compensation(program: Program, spec: CompressionSpec, samples: int) -> Compensation:
    if not METHODS[spec.method].compensated:
        return "none"
    if samples:
        return "both" if inversion.is_worth_adding(program, samples) else "calibration"
    possible = not inversion.obstacle(program) and inversion.is_affordable(program)
    return "inversion" if possible else "none"
