"""Telling of a report: tables on standard output, warnings on standard error, JSON in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from intrafusion.cli import tables
from intrafusion.report import CompressionReport, PlanReport


def show(report: CompressionReport | PlanReport) -> None:
    """Print what a report has to tell people."""
    console = Console()
    if isinstance(report, PlanReport):
        console.print(tables.planned(report))
    else:
        console.print(tables.comparison(report))
    if report.search is not None:
        console.print(tables.tries(report.search))
    warn(report.warnings)


def warn(warnings: Sequence[str]) -> None:
    """Print warnings."""
    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def write(report: CompressionReport | PlanReport, file: Path | None) -> None:
    """Keep a report where `--report` says."""
    if file is not None:
        file.write_text(report.model_dump_json(indent=2) + "\n")
