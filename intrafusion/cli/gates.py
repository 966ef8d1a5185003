"""Gates on the command line: their flags, their table, and the exit code of a missed one."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from intrafusion.api import GateCheck, GateOutcome, Gates
from intrafusion.cli.exits import Exit
from intrafusion.cli.meaning import flag_error
from intrafusion.errors import ErrorCode, IntraFusionError

_PANEL = "Gates"
_FLAGS = {"max_accuracy_drop": "--gate-accuracy-drop"}
"""Where a gate's flag is not its name: the spec has a budget of that name."""

GateAccuracyDrop = Annotated[
    float | None,
    typer.Option(
        "--gate-accuracy-drop",
        metavar="SHARE",
        help="Exit 3 if top-1 accuracy falls by more; 0.01 is one point. Needs --evaluation.",
        rich_help_panel=_PANEL,
    ),
]
MinSpeedup = Annotated[
    float | None,
    typer.Option(
        "--min-speedup",
        metavar="RATIO",
        help="Exit 3 if the latency is not divided by at least this.",
        rich_help_panel=_PANEL,
    ),
]
MaxBytes = Annotated[
    int | None,
    typer.Option(
        "--max-bytes",
        metavar="N",
        help="Exit 3 if the written file is larger.",
        rich_help_panel=_PANEL,
    ),
]


def build_gates(
    max_accuracy_drop: float | None,
    min_speedup: float | None,
    max_bytes: int | None,
    *,
    can_measure: bool,
) -> Gates | None:
    """The gates the flags ask for, if any; `can_measure` says whether there are samples.

    Raises `INVALID_SPEC` naming the flag that is wrong.
    """
    asked = {
        "max_accuracy_drop": max_accuracy_drop,
        "min_speedup": min_speedup,
        "max_bytes": max_bytes,
    }
    if all(value is None for value in asked.values()):
        return None
    if max_accuracy_drop is not None and not can_measure:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            "--gate-accuracy-drop is given without data to measure it on.",
            "Add --evaluation with labelled samples.",
        )
    try:
        return Gates.model_validate(asked)
    except ValidationError as invalid:
        raise flag_error(invalid, _FLAGS) from invalid


def print_gates(outcome: GateOutcome | None) -> None:
    """Show on standard error what became of the gates."""
    if outcome is None:
        return
    table = Table("gate", "limit", "actual", "", title="Gates", title_justify="left")
    for check in outcome.checks:
        verdict = "[green]held[/]" if check.passed else "[bold red]missed[/]"
        table.add_row(check.name, _text(check, check.limit), _text(check, check.actual), verdict)
    Console(stderr=True).print(table)


def leave_if_missed(outcome: GateOutcome | None) -> None:
    """End the command with exit code 3 where a gate was missed."""
    if outcome is not None and not outcome.passed:
        raise typer.Exit(Exit.GATE_MISSED)


def _text(check: GateCheck, value: float | None) -> str:
    if value is None:
        return "not measured"
    if check.name == "max_accuracy_drop":
        return f"{value * 100:.2f} points"
    return f"{value:.2f} ×" if check.name == "min_speedup" else f"{value:,.0f} bytes"
