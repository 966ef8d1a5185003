"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import intrafusion
from intrafusion.cli import keys, local, remote
from intrafusion.cli.exits import EXIT_CODES

app = typer.Typer(
    name="intrafusion",
    help="Make trained networks smaller without retraining them, here or on a server.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in {
    "In this process": (local.inspect, local.compress, local.serve),
    "On a server": (
        remote.submit,
        remote.wait,
        remote.download,
        remote.jobs,
        remote.cancel,
        remote.retry,
        remote.delete,
    ),
}.items():
    for command in commands:
        app.command(rich_help_panel=panel, epilog=EXIT_CODES)(command)
app.add_typer(keys.app, rich_help_panel="In this process")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(intrafusion.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Make trained networks smaller without retraining them, here or on a server."""


def main() -> None:
    """Run the command line."""
    app()
