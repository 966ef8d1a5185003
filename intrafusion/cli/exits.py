"""The exit codes, and how an error becomes one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from typing import ParamSpec

import typer
from rich.console import Console

from intrafusion.errors import ErrorCode, IntraFusionError

P = ParamSpec("P")


class Exit(IntEnum):
    """What the process tells the shell. Part of the public interface: none is renumbered."""

    OK = 0
    FAILED = 1
    USAGE = 2
    GATE_MISSED = 3
    UNREACHABLE = 4
    CANCELLED = 5
    STILL_RUNNING = 6


EXIT_CODES = (
    "Exit codes: 0 done · 1 the network, its data or the job failed · 2 wrong usage · "
    "3 a gate was missed · 4 the server cannot be reached or is not ready · "
    "5 the job was cancelled · 6 still running when --timeout ran out"
)

_BY_CODE = {
    ErrorCode.UNAVAILABLE: Exit.UNREACHABLE,
    ErrorCode.CANCELLED: Exit.CANCELLED,
    ErrorCode.BAD_REQUEST: Exit.USAGE,
    ErrorCode.UNKNOWN_FIELD: Exit.USAGE,
    ErrorCode.INVALID_SPEC: Exit.USAGE,
    ErrorCode.INPUT_SHAPE_MISSING: Exit.USAGE,
    ErrorCode.ARCHITECTURE_MISSING: Exit.USAGE,
    ErrorCode.UNKNOWN_ARCHITECTURE: Exit.USAGE,
}


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """`command`, with its `IntraFusionError` shown to the user and turned into an exit code.

    The message goes to stderr; a command called with `--json` also prints
    `{"error": {"code", "message", "hint", "details"}}` on stdout.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except IntraFusionError as error:
            if kwargs.get("as_json"):
                sys.stdout.write(json.dumps({"error": _as_dict(error)}, default=str) + "\n")
            show(error)
            raise typer.Exit(_BY_CODE.get(error.code, Exit.FAILED)) from error

    return run


def show(error: IntraFusionError) -> None:
    """Say on stderr what went wrong and what to do."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[bold red]{error.code.title}[/] [dim]({error.code.code})[/]")
    console.print(error.message, markup=False)
    if error.hint:
        console.print(error.hint, markup=False, style="green")
    if request_id := error.details.get("request_id"):
        console.print(f"request {request_id}", markup=False, style="dim")


def _as_dict(error: IntraFusionError) -> dict[str, object]:
    return {
        "code": error.code.code,
        "message": error.message,
        "hint": error.hint,
        "details": error.details,
    }
