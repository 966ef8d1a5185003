"""Gates: what a result must hold for a pipeline to go on. Light: importing this costs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from intrafusion.api import GateCheck, GateOutcome, Gates
from intrafusion.report import CompressionReport


def check_gates(gates: Gates, report: CompressionReport) -> GateOutcome:
    """Compare what `gates` ask for with what `report` measured.

    A gate whose number was not measured is missed: a pipeline must not go on because a label
    was forgotten.
    """
    checks = list(_checks(gates, report))
    return GateOutcome(passed=all(check.passed for check in checks), checks=checks)


def _checks(gates: Gates, report: CompressionReport) -> Iterator[GateCheck]:
    if gates.max_accuracy_drop is not None:
        limit, drop = gates.max_accuracy_drop, accuracy_drop(report)
        # accuracies are ratios of counts; their difference is not exact in binary
        yield _check("max_accuracy_drop", limit, drop, lambda drop: drop <= limit + 1e-9)
    if gates.min_speedup is not None:
        least = gates.min_speedup
        yield _check("min_speedup", least, speedup(report), lambda times: times >= least)
    if gates.max_bytes is not None:
        most = gates.max_bytes
        yield _check("max_bytes", most, report.after.file_bytes, lambda size: size <= most)


def accuracy_drop(report: CompressionReport) -> float | None:
    """Top-1 accuracy before minus after, in [-1, 1]; None without labels."""
    if report.before.accuracy is None or report.after.accuracy is None:
        return None
    return report.before.accuracy - report.after.accuracy


def speedup(report: CompressionReport) -> float | None:
    """Latency before divided by after; None where it was not measured."""
    before, after = report.before.latency, report.after.latency
    if before is None or after is None or after.median_ms <= 0:
        return None
    return before.median_ms / after.median_ms


def _check(
    name: str, limit: float, actual: float | None, holds: Callable[[float], bool]
) -> GateCheck:
    passed = actual is not None and holds(actual)
    return GateCheck.model_validate(
        {"name": name, "limit": limit, "actual": actual, "passed": passed}
    )
