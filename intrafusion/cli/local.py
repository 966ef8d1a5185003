"""Commands that work in this process: `inspect`, `compress`, `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import intrafusion
from intrafusion.cli import gates as g
from intrafusion.cli import options as o
from intrafusion.cli import tables
from intrafusion.cli.exits import reported
from intrafusion.cli.progress import shown_progress
from intrafusion.cli.showing import show, warn, write
from intrafusion.dry_run import check_plannable
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.gates import check_gates
from intrafusion.report import PlanReport
from intrafusion.spec import ModelDescription

if TYPE_CHECKING:
    from intrafusion.calibration import Dataset


@reported
def inspect(
    model: o.ModelFile,
    input_shape: o.InputShape = None,
    input_dtype: o.InputDtype = None,
    architecture: o.ArchitectureName = None,
    architecture_arguments: o.ArchitectureArguments = None,
    as_json: o.AsJson = False,
) -> None:
    """Show what can be pruned in a network, and what cannot and why.

    Example:

        intrafusion inspect examples/fashion_vgg.pt --input-shape 1,1,28,28
    """
    description = o.build_description(
        input_shape, input_dtype, architecture, architecture_arguments
    )
    report = intrafusion.inspect(_load(model, description))
    console = Console()
    if as_json:
        console.out(report.model_dump_json(), highlight=False)
        return
    console.print(
        f"{model.name}: {report.source}, {report.parameters:,} parameters, "
        f"{report.macs:,} MACs, {report.coverage:.0%} of the parameters prunable"
    )
    for line in report.inputs:
        console.print(f"input {line}", markup=False)
    console.print(tables.groups(report))
    if report.frozen:
        console.print(tables.frozen(report))
    warn(report.warnings)


@reported
def compress(
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
) -> None:
    """Compress a network in this process.

    With --calibration the layers are refitted on those samples, which is where most of the
    accuracy comes from; without, they are corrected from the weights alone.

    Examples:

        intrafusion compress examples/fashion_vgg.pt -o small.pt \\
          --calibration examples/fashion_calibration.npz \\
          --evaluation examples/fashion_test.npz

        intrafusion compress net.pt -o small.pt --max-accuracy-drop 0.01 \\
          --calibration samples.npz --evaluation labelled.npz

        intrafusion compress net.pt --input-shape 1,3,224,224 --macs 0.5 --dry-run

        intrafusion compress net.safetensors -o small.safetensors \\
          --architecture torchvision/resnet18 --input-shape 1,3,224,224
    """
    spec = o.build_spec(
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
        group_sparsity=o.pairs(group_sparsity),
        attention=attention,
        joint_steps=joint_steps,
        steps=steps,
        round_to=round_to,
        seed=seed,
    )
    gates = g.build_gates(
        gate_accuracy_drop, min_speedup, max_bytes, can_measure=evaluation is not None
    )
    description = o.build_description(
        input_shape, input_dtype, architecture, architecture_arguments
    )
    if dry_run:
        check_plannable(spec, gates)
    target_file = None if dry_run else _required(output)
    fitted_on = intrafusion.load_dataset(calibration) if calibration else None
    measured_on = intrafusion.load_dataset(evaluation) if evaluation else None
    program = _load(model, description, fitted_on or measured_on)
    with shown_progress(quiet) as listener:
        if target_file is None:
            _show_plan(
                intrafusion.plan(program, spec, fitted_on, progress=listener), report, as_json
            )
            return
        result = intrafusion.compress(
            program, spec, calibration=fitted_on, evaluation=measured_on, progress=listener
        )
    result.program.save(target_file)
    measured = result.report.with_file_bytes(model.stat().st_size, target_file.stat().st_size)
    write(measured, report)
    outcome = None if gates is None else check_gates(gates, measured)
    console = Console()
    if as_json:
        console.out(measured.model_dump_json(), highlight=False)
    else:
        show(measured)
        console.print(f"wrote {target_file}", markup=False, highlight=False, soft_wrap=True)
    g.print_gates(outcome)
    g.leave_if_missed(outcome)


@reported
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    home: Annotated[
        Path,
        typer.Option(
            help="Folder of all state: records, uploads, results. A restart goes on from it.",
            file_okay=False,
        ),
    ] = Path(".intrafusion"),
) -> None:
    """Start the whole service: API, worker, queue and storage, in one folder.

    Ctrl-C stops it all; starting again with the same --home goes on where it stopped.

    Example:

        intrafusion serve --port 8000 --home ./state
    """
    try:
        from service import embedded
    except ModuleNotFoundError as missing:
        raise IntraFusionError(
            ErrorCode.ENGINE_MISSING,
            f"The server needs {missing.name}, which is not installed.",
            "Install everything: pip install 'intrafusion[all]'.",
        ) from missing
    embedded.serve(host=host, port=port, home=home)


def _required(output: Path | None) -> Path:
    if output is None:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            "--output is missing.",
            "Say where the smaller network goes with -o, or only plan it with --dry-run.",
        )
    return output


def _show_plan(plan: PlanReport, report: Path | None, as_json: bool) -> None:
    write(plan, report)
    if as_json:
        Console().out(plan.model_dump_json(), highlight=False)
    else:
        show(plan)


def _load(
    path: Path, description: ModelDescription, samples: Dataset | None = None
) -> intrafusion.Program:
    shapes, dtypes = description.input_shapes, description.input_dtypes
    if shapes is None and samples is not None:
        shapes = [[1, *inputs.shape[1:]] for inputs in samples.inputs]
        dtypes = dtypes or [str(inputs.dtype).removeprefix("torch.") for inputs in samples.inputs]
    return intrafusion.load(
        path, input_shapes=shapes, input_dtypes=dtypes, architecture=description.architecture
    )
