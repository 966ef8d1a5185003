"""What a report looks like in a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from intrafusion.api import Job
from intrafusion.report import (
    CompressionReport,
    FrozenReport,
    GroupReport,
    InspectionReport,
    Measurement,
    PlanReport,
    SearchReport,
)

_BLOCK = re.compile(r"(?<![^.])\d+(?=\.)")
"""The number of a block in a parameter's name, such as 3 in `blocks.3.attn`."""


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


def tries(search: SearchReport) -> Table:
    """The networks that a search tried, one row each."""
    title = f"Tried for {search.budget} {search.limit:g}"
    table = Table("parameters", "MACs", title=title, title_justify="left")
    measures = {
        "accuracy": [each.accuracy for each in search.tries],
        "relative output distance": [each.relative_distance for each in search.tries],
        "latency": [each.latency for each in search.tries],
    }
    shown = {name: values for name, values in measures.items() if None not in values}
    for name in (*shown, "within"):
        table.add_column(name)
    for column in table.columns:
        column.justify = "right"
    for number, each in enumerate(search.tries):
        measured = [_percent(values[number] or 0.0) for values in shown.values()]
        within = "yes" if each.within else "no"
        table.add_row(_count(each.parameters), _count(each.macs), *measured, within)
    return table


def planned(plan: PlanReport) -> Table:
    """What a dry run would remove, one row per group, and the sizes that it would come to."""
    table = Table("group", "units", "kept", title="Plan", title_justify="left")
    if plan.expected_error is not None:
        table.add_column("expected error")
    for column in table.columns[1:]:
        column.justify = "right"
    for group in plan.groups:
        error = [] if plan.expected_error is None else [_error(group.expected_error)]
        table.add_row(group.name, str(group.units), str(group.kept), *error)
    before, after = plan.before, plan.after
    sizes = (("parameters", before.parameters, after.parameters), ("MACs", before.macs, after.macs))
    lines = [f"{name}: {was:,} → {now:,} ({now / was:.1%})" for name, was, now in sizes if was]
    if plan.expected_error is not None:
        lines.append(
            f"Expected error {_error(plan.expected_error)}: squared change of the outputs relative "
            "to their variance, before any joint refit."
        )
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def groups(report: InspectionReport) -> Table:
    """The prunable groups of an inspected network, alike ones of repeated blocks in one row."""
    table = Table("group", "units", "parameters", "layers", title="Prunable groups")
    table.columns[1].justify = table.columns[2].justify = "right"
    alike: dict[object, list[GroupReport]] = {}
    for group in report.groups:
        key = (_pattern(group.name), group.units, tuple(map(_pattern, _layers(group))))
        alike.setdefault(key, []).append(group)
    for members in alike.values():
        layers = [_folded(names) for names in zip(*map(_layers, members), strict=True)]
        table.add_row(
            _folded([group.name for group in members]),
            str(members[0].units) if len(members) == 1 else f"{len(members)} × {members[0].units}",
            _shares([group.parameter_share for group in members]),
            _listed(layers),
        )
    table.caption = (
        "A unit is one channel in all the layers of its group. A weight counts in the group of its "
        "outputs and in that of its inputs, so that shares add up to more than 100%."
    )
    table.caption_justify = "left"
    return table


def frozen(report: InspectionReport) -> Table:
    """What cannot be pruned in an inspected network, by the operation that says so and why."""
    table = Table("operation", "reason", "parameters", title="Frozen")
    entries: dict[tuple[str, str], list[FrozenReport]] = {}
    for entry in report.frozen:
        entries.setdefault((entry.op, entry.reason), []).append(entry)
    for (op, reason), members in entries.items():
        patterns: dict[str, list[str]] = {}
        for entry in members:
            name = f"{entry.parameter}[{entry.dimension}]"
            patterns.setdefault(_pattern(name), []).append(name)
        table.add_row(op, reason, _listed(list(map(_folded, patterns.values()))))
    table.caption = "[0] is the dimension of a weight's outputs, [1] that of its inputs."
    table.caption_justify = "left"
    return table


def jobs(found: Sequence[Job]) -> Table:
    """Jobs, one row each: its network by the name of the file, and its labels."""
    table = Table("job", "network", "status", "queued")
    for column in table.columns:
        column.no_wrap = True
    table.columns[1].no_wrap, table.columns[1].overflow = False, "fold"
    labelled = any(job.metadata for job in found)
    if labelled:
        table.add_column("labels", overflow="fold")
    for job in found:
        labels = "\n".join(f"{name}={value}" for name, value in job.metadata.items())
        queued = f"{job.queued_at.astimezone():%m-%d %H:%M}"
        name = Text(job.model_name or job.model)
        table.add_row(job.id, name, job.status, queued, *([Text(labels)] if labelled else []))
    return table


def _layers(group: GroupReport) -> list[str]:
    """The names of the layers a group runs through; of a parameter in no layer its own."""
    names = (layer.partition("[")[0] for layer in group.layers)
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))


def _listed(names: Sequence[str], most: int = 4) -> str:
    hidden = len(names) - most
    return ", ".join(names[:most]) + (f" and {hidden} more" if hidden > 0 else "")


def _pattern(name: str) -> str:
    """A name without the numbers that count blocks."""
    return _BLOCK.sub("#", name)


def _folded(names: Sequence[str]) -> str:
    """Names of one pattern in one: `blocks.{0…11}.attn`."""
    numbers = zip(*map(_BLOCK.findall, names), strict=True)
    spans = iter([sorted({int(number) for number in found}) for found in numbers])

    def span(_: re.Match[str]) -> str:
        found = next(spans)
        if len(found) == 1:
            return str(found[0])
        whole = len(found) > 2 and found == list(range(found[0], found[-1] + 1))
        return f"{{{found[0]}…{found[-1]}}}" if whole else f"{{{','.join(map(str, found))}}}"

    return _BLOCK.sub(span, names[0])


def _shares(shares: Sequence[float]) -> str:
    least, most = f"{min(shares):.1%}", f"{max(shares):.1%}"
    if len(shares) == 1:
        return most
    return f"{most} each" if least == most else f"{least} to {most}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _latency(measurement: Measurement) -> float | None:
    return measurement.latency.median_ms if measurement.latency else None


_MEASURES: tuple[
    tuple[str, Callable[[Measurement], float | None], Callable[[float], str], bool], ...
] = (
    ("accuracy", lambda m: m.accuracy, _percent, False),
    ("top-5 accuracy", lambda m: m.top5_accuracy, _percent, False),
    ("R²", lambda m: m.regression.r2 if m.regression else None, _plain, True),
    ("mean squared error", lambda m: m.regression.mse if m.regression else None, _plain, True),
    ("mean absolute error", lambda m: m.regression.mae if m.regression else None, _plain, True),
    ("parameters", lambda m: m.parameters, _count, True),
    ("MACs", lambda m: m.macs, _count, True),
    ("peak activations, bytes", lambda m: m.peak_activation_bytes, _count, True),
    ("latency, ms", _latency, lambda value: f"{value:.2f}", True),
    ("file, bytes", lambda m: m.file_bytes, _count, True),
)
