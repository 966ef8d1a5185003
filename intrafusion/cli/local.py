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
from intrafusion.cli.asked import Asked, asks
from intrafusion.cli.exits import reported
from intrafusion.cli.meaning import build_description
from intrafusion.cli.progress import shown_progress
from intrafusion.cli.showing import show, warn, write
from intrafusion.errors import ErrorCode, IntraFusionError, how_to_install
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
    description = build_description(input_shape, input_dtype, architecture, architecture_arguments)
    report = intrafusion.inspect(_load(model, description))
    console = Console()
    if as_json:
        console.out(report.model_dump_json(), highlight=False)
        return
    console.print(f"{model.name}: {report.summary}")
    for line in report.inputs:
        console.print(f"input {line}", markup=False)
    console.print(tables.groups(report))
    if report.frozen:
        console.print(tables.frozen(report))
    warn(report.warnings)


@reported
@asks
def compress(asked: Asked) -> None:
    """Compress a network in this process.

    With --calibration the layers are refitted on those samples, which is where most of the
    accuracy comes from; without, samples are made where the network allows it.

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
    target_file = None if asked.dry_run else _required(asked.output)
    fitted_on = intrafusion.load_dataset(asked.calibration) if asked.calibration else None
    measured_on = intrafusion.load_dataset(asked.evaluation) if asked.evaluation else None
    program = _load(asked.model, asked.description, fitted_on or measured_on)
    with shown_progress(asked.quiet) as listener:
        if target_file is None:
            _show_plan(intrafusion.plan(program, asked.spec, fitted_on, progress=listener), asked)
            return
        result = intrafusion.compress(
            program, asked.spec, calibration=fitted_on, evaluation=measured_on, progress=listener
        )
    result.program.save(target_file)
    sizes = asked.model.stat().st_size, target_file.stat().st_size
    measured = result.report.with_file_bytes(*sizes)
    write(measured, asked.report)
    outcome = None if asked.gates is None else check_gates(asked.gates, measured)
    console = Console()
    if asked.as_json:
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
            f"Install everything: {how_to_install('all')}.",
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


def _show_plan(plan: PlanReport, asked: Asked) -> None:
    write(plan, asked.report)
    if asked.as_json:
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
