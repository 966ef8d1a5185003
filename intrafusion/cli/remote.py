"""Commands that talk to a server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from intrafusion.api import Event, Job, JobRequest, JobStatus, Output
from intrafusion.cli import gates as g
from intrafusion.cli import options as o
from intrafusion.cli import tables
from intrafusion.cli.asked import Asked, asks
from intrafusion.cli.exits import Exit, reported
from intrafusion.cli.meaning import labels
from intrafusion.cli.progress import shown_progress
from intrafusion.cli.showing import show, write
from intrafusion.client import Client, error_of
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.report import Progress

_OUTPUT_OF: dict[str, Output] = {
    ".pt": "torchscript",
    ".safetensors": "safetensors",
    ".pt2": "exported",
    ".onnx": "onnx",
}


@reported
@asks
def submit(
    asked: Asked,
    server: o.Server = o.DEFAULT_SERVER,
    api_key: o.ApiKey = None,
    wait_for_it: Annotated[
        bool,
        typer.Option(
            "--wait", help="Follow the job to its end. Implied by -o, --report and --dry-run."
        ),
    ] = False,
    timeout: o.Timeout = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"A form in which the network is wanted: {', '.join(_OUTPUT_OF.values())}; "
            "repeatable. Without it: that of -o, or torchscript and safetensors.",
            rich_help_panel="Results",
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A label of your own, by which jobs are found; repeatable.",
            rich_help_panel="Server",
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="TEXT",
            help="The same key and request again give the same job.",
            rich_help_panel="Server",
        ),
    ] = None,
) -> None:
    """Compress a network on a server; takes the flags of `compress`.

    Prints the job's id and returns at once; with -o, --report, --dry-run or --wait it follows
    the job to its end. Needs no torch.

    Examples:

        intrafusion submit net.pt --server http://gpu-box:8000 \\
          --input-shape 1,3,224,224

        intrafusion submit net.pt -o small.pt \\
          --calibration samples.npz --sparsity 0.5

        intrafusion submit net.pt --calibration samples.npz --macs 0.5 --dry-run
    """
    outputs = _outputs(asked.output, formats or [])
    with Client(server, api_key=api_key) as client:
        request = JobRequest(
            **dict(asked.description),
            model=client.upload_model(asked.model).id,
            spec=asked.spec,
            calibration=client.upload_dataset(asked.calibration).id if asked.calibration else None,
            evaluation=client.upload_dataset(asked.evaluation).id if asked.evaluation else None,
            gates=asked.gates,
            dry_run=asked.dry_run,
            metadata=labels(metadata),
        )
        if outputs:
            request = request.model_copy(update={"outputs": outputs})
        job = client.submit(request, idempotency_key=idempotency_key)
        if not (wait_for_it or asked.output or asked.report or asked.dry_run):
            _print_job(job, asked.as_json)
            return
        Console(stderr=True, quiet=asked.quiet).print(f"job {job.id}", highlight=False)
        _follow(client, job.id, timeout=timeout, quiet=asked.quiet)
        if asked.output and not asked.dry_run:
            client.download(job.id, f"model{asked.output.suffix}", asked.output)
        _finish(client, job.id, asked.report, asked.as_json)


@reported
def wait(
    job: o.JobId,
    timeout: o.Timeout = None,
    report: o.ReportFile = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    server: o.Server = o.DEFAULT_SERVER,
    api_key: o.ApiKey = None,
) -> None:
    """Follow a job to its end and print what it did.

    Example:

        intrafusion wait job_… --timeout 600
    """
    with Client(server, api_key=api_key) as client:
        _follow(client, job, timeout=timeout, quiet=quiet)
        _finish(client, job, report, as_json)


@reported
def download(
    job: o.JobId,
    name: Annotated[
        str | None, typer.Argument(help="Name of the artifact. Without: all of them.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="PATH", help="A folder, or with NAME a file."),
    ] = Path(),
    as_json: o.AsJson = False,
    server: o.Server = o.DEFAULT_SERVER,
    api_key: o.ApiKey = None,
) -> None:
    """Download a job's files, each checked against its SHA-256.

    Examples:

        intrafusion download job_… model.pt -o small.pt

        intrafusion download job_… -o results/
    """
    with Client(server, api_key=api_key) as client:
        names = [name] if name else _names(client, job)
        into_folder = name is None or output.is_dir()
        paths = [
            client.download(job, each, output / each if into_folder else output) for each in names
        ]
    console = Console()
    if as_json:
        console.out(json.dumps({"files": [str(path) for path in paths]}), highlight=False)
        return
    for path in paths:
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)


def _names(client: Client, job_id: str) -> list[str]:
    """All files of a job. Raises `NOT_FINISHED` or `NOT_FOUND` where there are none."""
    names = [artifact.name for artifact in client.artifacts(job_id)]
    if names:
        return names
    job = client.job(job_id)
    raise IntraFusionError(
        ErrorCode.NOT_FOUND if job.ended else ErrorCode.NOT_FINISHED,
        f"{job_id} is {job.status} and has made no files.",
        f"intrafusion wait {job_id} follows it to its end, or says how it ended.",
        status=job.status,
    )


@reported
def jobs(
    status: Annotated[
        str | None, typer.Option(help="Only jobs in this state, such as running.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="Only jobs on this uploaded model.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Only jobs with this method.")] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only jobs with this label; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: o.AsJson = False,
    server: o.Server = o.DEFAULT_SERVER,
    api_key: o.ApiKey = None,
) -> None:
    """List jobs, newest first.

    Example:

        intrafusion jobs --status failed --metadata branch=main --json
    """
    only = labels(metadata)
    with Client(server, api_key=api_key) as client:
        found = list(
            islice(
                client.jobs(status=_status(status), model=model, method=method, metadata=only),
                limit,
            )
        )
    console = Console()
    if as_json:
        console.out(
            json.dumps({"data": [job.model_dump(mode="json") for job in found]}), highlight=False
        )
        return
    console.print(tables.jobs(found))


@reported
def cancel(
    job: o.JobId,
    as_json: o.AsJson = False,
    server: o.Server = o.DEFAULT_SERVER,
    api_key: o.ApiKey = None,
) -> None:
    """Stop a job; one that has ended stays as it is.

    Example:

        intrafusion cancel job_…
    """
    with Client(server, api_key=api_key) as client:
        _print_job(client.cancel(job), as_json)


@reported
def retry(
    job: o.JobId,
    as_json: o.AsJson = False,
    server: o.Server = o.DEFAULT_SERVER,
    api_key: o.ApiKey = None,
) -> None:
    """Queue a new job that asks for what an ended one asked for; prints its id.

    Example:

        intrafusion retry job_…
    """
    with Client(server, api_key=api_key) as client:
        _print_job(client.retry(job), as_json)


@reported
def delete(
    job: o.JobId,
    server: o.Server = o.DEFAULT_SERVER,
    api_key: o.ApiKey = None,
) -> None:
    """Have the server forget an ended job and its files.

    Example:

        intrafusion delete job_…
    """
    with Client(server, api_key=api_key) as client:
        client.delete(job)


def _follow(client: Client, job_id: str, *, timeout: float | None, quiet: bool) -> None:
    """Show the job's progress until it has succeeded; leaves with an exit code otherwise."""
    with shown_progress(quiet) as listener:

        def show(event: Event) -> None:
            if event.kind == "progress":
                listener(
                    Progress(event.data["step"], int(event.data["done"]), int(event.data["total"]))
                )

        job = client.wait(job_id, timeout=timeout, on_event=show)
    if not job.ended:
        Console(stderr=True).print(
            f"{job_id} is still {job.status}. Go on with: intrafusion wait {job_id}",
            highlight=False,
        )
        raise typer.Exit(Exit.STILL_RUNNING)
    if job.status == "cancelled":
        raise IntraFusionError(
            ErrorCode.CANCELLED,
            f"{job_id} was cancelled.",
            "Submit it again to run it.",
            job=job_id,
        )
    if job.error is not None:
        raise error_of(job.error)


def _print_job(job: Job, as_json: bool) -> None:
    console = Console()
    if as_json:
        console.out(job.model_dump_json(), highlight=False)
    else:
        console.print(f"{job.id} {job.status}", highlight=False)


def _finish(client: Client, job_id: str, report_file: Path | None, as_json: bool) -> None:
    """Print what the job did, or would do; leaves with exit code 3 where it missed a gate."""
    job = client.job(job_id)
    report = client.plan(job_id) if job.dry_run else client.report(job_id)
    write(report, report_file)
    if as_json:
        name = "plan" if job.dry_run else "report"
        document = {"job": job.model_dump(mode="json"), name: report.model_dump(mode="json")}
        Console().out(json.dumps(document), highlight=False)
    else:
        show(report)
    g.print_gates(job.gates)
    g.leave_if_missed(job.gates)


def _outputs(path: Path | None, formats: Sequence[str]) -> list[Output]:
    """The forms to ask for, that of the file first; none for what a job makes by itself."""
    known = {str(output): output for output in _OUTPUT_OF.values()}
    for name in formats:
        if name not in known:
            raise IntraFusionError(
                ErrorCode.INVALID_SPEC,
                f"--format {name!r} is no format.",
                f"Use one of {', '.join(known)}.",
            )
    first = [_output_of(path)] if path else []
    return list(dict.fromkeys([*first, *(known[name] for name in formats)]))


def _output_of(path: Path) -> Output:
    if path.suffix not in _OUTPUT_OF:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            f"--output {path.name!r} has no ending that names a format.",
            f"Use one of {', '.join(_OUTPUT_OF)}.",
        )
    return _OUTPUT_OF[path.suffix]


def _status(text: str | None) -> JobStatus | None:
    for status in ("queued", "running", "cancelling", "succeeded", "failed", "cancelled"):
        if text == status:
            return status
    if text is None:
        return None
    raise IntraFusionError(
        ErrorCode.BAD_REQUEST,
        f"--status {text!r} is no state.",
        "Use one such as running or failed.",
    )
