"""What `compress` and `submit` are asked for: the same flags, written down once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from intrafusion.api import Gates
from intrafusion.cli import gates as g
from intrafusion.cli import options as o
from intrafusion.cli.meaning import build_description, build_spec, pairs
from intrafusion.dry_run import check_plannable
from intrafusion.spec import CompressionSpec, ModelDescription


@dataclass(frozen=True)
class Asked:
    """A compression that somebody wants, and how it is told of."""

    model: Path
    output: Path | None
    description: ModelDescription
    calibration: Path | None
    evaluation: Path | None
    spec: CompressionSpec
    gates: Gates | None
    report: Path | None
    dry_run: bool
    as_json: bool
    quiet: bool


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the flags of a compression before its own, which it gets as what they mean."""
    shared = inspect.signature(_asked, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters
    _, *further = own.values()

    @wraps(command)
    def run(**given: Any) -> None:
        command(_asked(**{name: given.pop(name) for name in shared}), **given)

    parameters = [*shared.values(), *further]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _asked(
    model: o.ModelFile,
    output: o.Output = None,
    input_shape: o.InputShape = None,
    input_dtype: o.InputDtype = None,
    architecture: o.ArchitectureName = None,
    architecture_arguments: o.ArchitectureArguments = None,
    calibration: o.Calibration = None,
    evaluation: o.Evaluation = None,
    method: o.Method = o.SPEC_DEFAULTS.method,
    sparsity: o.Sparsity = None,
    parameters: o.Parameters = None,
    macs: o.Macs = None,
    latency: o.Latency = None,
    max_accuracy_drop: o.MaxAccuracyDrop = None,
    max_output_distance: o.MaxOutputDistance = None,
    minimise: o.Minimise = o.SPEC_DEFAULTS.minimise,
    allocation: o.Allocation = o.SPEC_DEFAULTS.allocation,
    importance: o.Importance = o.SPEC_DEFAULTS.importance,
    target: o.Target = o.SPEC_DEFAULTS.target,
    source_mass: o.SourceMass = o.SPEC_DEFAULTS.source_mass,
    target_mass: o.TargetMass = o.SPEC_DEFAULTS.target_mass,
    distance: o.Distance = o.SPEC_DEFAULTS.distance,
    producers: o.Producers = o.SPEC_DEFAULTS.producers,
    compensation: o.Compensation = o.SPEC_DEFAULTS.compensation,
    include: o.Include = None,
    exclude: o.Exclude = None,
    group_sparsity: o.GroupSparsity = None,
    attention: o.Attention = "width",
    joint_steps: o.JointSteps = None,
    steps: o.Steps = o.SPEC_DEFAULTS.steps,
    round_to: o.RoundTo = None,
    seed: o.Seed = o.SPEC_DEFAULTS.seed,
    gate_accuracy_drop: g.GateAccuracyDrop = None,
    min_speedup: g.MinSpeedup = None,
    max_bytes: g.MaxBytes = None,
    report: o.ReportFile = None,
    dry_run: o.DryRun = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> Asked:
    """What the flags mean. Raises `INVALID_SPEC` naming the one that is wrong."""
    spec = build_spec(
        method=method,
        sparsity=sparsity,
        parameters=parameters,
        macs=macs,
        latency=latency,
        max_accuracy_drop=max_accuracy_drop,
        max_output_distance=max_output_distance,
        minimise=minimise,
        allocation=allocation,
        importance=importance,
        target=target,
        source_mass=source_mass,
        target_mass=target_mass,
        distance=distance,
        producers=producers,
        compensation=compensation,
        include=include or [],
        exclude=exclude or [],
        group_sparsity=pairs(group_sparsity),
        attention=attention,
        joint_steps=joint_steps,
        steps=steps,
        round_to=round_to,
        seed=seed,
    )
    gates = g.build_gates(
        gate_accuracy_drop, min_speedup, max_bytes, can_measure=evaluation is not None
    )
    description = build_description(input_shape, input_dtype, architecture, architecture_arguments)
    if dry_run:
        check_plannable(spec, gates)
    return Asked(
        model=model,
        output=output,
        description=description,
        calibration=calibration,
        evaluation=evaluation,
        spec=spec,
        gates=gates,
        report=report,
        dry_run=dry_run,
        as_json=as_json,
        quiet=quiet,
    )
