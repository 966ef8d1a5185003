"""What a report looks like in a terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from intrafusion.report import (
    CompressionReport,
    FrozenReport,
    GroupReport,
    InspectionReport,
    Measurement,
)


def comparison(report: CompressionReport) -> Table:
    """Before, after and the change, one row per measure the report has."""
    table = Table("", "before", "after", "change", title="Before and after", title_justify="left")
    table.caption_justify = "left"
    for column in table.columns[1:]:
        column.justify = "right"
    for title, measure, text, as_share in _MEASURES:
        before, after = measure(report.before), measure(report.after)
        if before is None or after is None:
            continue
        change = f"{(after / before - 1) * 100:+.1f} %" if as_share and before else ""
        if not as_share:
            change = f"{(after - before) * 100:+.2f} points"
        table.add_row(title, text(before), text(after), change)
    notes = []
    if latency := report.after.latency:
        notes.append(
            f"Latency: batch of {latency.batch}, {latency.threads} threads, {latency.device}."
        )
    if fidelity := report.fidelity:
        if fidelity.agreement is not None:
            table.add_row("agreement", "", _percent(fidelity.agreement), "")
        table.add_row("relative output distance", "", _percent(fidelity.relative_distance), "")
        notes.append(f"Outputs compared on {fidelity.samples:,} {fidelity.source} samples.")
    table.caption = "\n".join(notes)
    return table


def groups(report: InspectionReport) -> Table:
    """The prunable groups of an inspected network."""
    table = Table("group", "units", "share of parameters", "runs through", title="Prunable groups")
    table.columns[1].justify = table.columns[2].justify = "right"
    for group in report.groups:
        table.add_row(group.name, str(group.units), f"{group.parameter_share:.1%}", _layers(group))
    return table


def frozen(report: InspectionReport) -> Table:
    """What cannot be pruned in an inspected network, and why."""
    table = Table("parameter", "channels", "op", "reason", title="Frozen")
    table.columns[1].justify = "right"
    for entry in report.frozen:
        table.add_row(_where(entry), str(entry.channels), entry.op, entry.reason)
    return table


def _layers(group: GroupReport, most: int = 4) -> str:
    shown = ", ".join(group.layers[:most])
    hidden = len(group.layers) - most
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _where(entry: FrozenReport) -> str:
    return f"{entry.parameter}[{entry.dimension}]"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _latency(measurement: Measurement) -> float | None:
    return measurement.latency.median_ms if measurement.latency else None


_MEASURES: tuple[
    tuple[str, Callable[[Measurement], float | None], Callable[[float], str], bool], ...
] = (
    ("accuracy", lambda m: m.accuracy, _percent, False),
    ("top-5 accuracy", lambda m: m.top5_accuracy, _percent, False),
    ("parameters", lambda m: m.parameters, _count, True),
    ("MACs", lambda m: m.macs, _count, True),
    ("latency, ms", _latency, lambda value: f"{value:.2f}", True),
    ("file, bytes", lambda m: m.file_bytes, _count, True),
)
