from __future__ import annotations

import pytest

from intrafusion.api import Gates
from intrafusion.gates import check_gates
from intrafusion.report import CompensationReport, CompressionReport, Latency, Measurement
from intrafusion.spec import CompressionSpec


def report(accuracy: float | None = 0.90, ms: float | None = 1.0) -> CompressionReport:
    def measured(accuracy: float | None, ms: float | None, size: int) -> Measurement:
        latency = None if ms is None else Latency(median_ms=ms, batch=1, threads=1, device="cpu")
        return Measurement(
            parameters=1, macs=1, file_bytes=size, accuracy=accuracy, latency=latency
        )

    return CompressionReport(
        intrafusion_version="0",
        torch_version="0",
        source="torchscript",
        spec=CompressionSpec(),
        decided=CompressionSpec(),
        before=measured(None if accuracy is None else 0.91, None if ms is None else 2.0, 1000),
        after=measured(accuracy, ms, 400),
        fidelity=None,
        groups=[],
        compensation=CompensationReport(mode="none"),
        seconds={},
    )


@pytest.mark.parametrize(
    ("gates", "actual", "passed"),
    [
        (Gates(max_accuracy_drop=0.01), 0.01, True),
        (Gates(max_accuracy_drop=0.0099), 0.01, False),
        (Gates(min_speedup=2), 2, True),
        (Gates(min_speedup=2.1), 2, False),
        (Gates(max_bytes=400), 400, True),
        (Gates(max_bytes=399), 400, False),
    ],
)
def test_a_gate_holds_at_its_limit_and_not_beyond(
    gates: Gates, actual: float, passed: bool
) -> None:
    outcome = check_gates(gates, report())
    (check,) = outcome.checks
    assert check.actual == pytest.approx(actual)
    assert (outcome.passed, check.passed) == (passed, passed)


def test_one_missed_gate_is_enough_and_all_are_told() -> None:
    outcome = check_gates(Gates(max_accuracy_drop=0.5, min_speedup=9, max_bytes=999), report())
    assert not outcome.passed
    assert [(c.name, c.passed) for c in outcome.checks] == [
        ("max_accuracy_drop", True),
        ("min_speedup", False),
        ("max_bytes", True),
    ]


def test_what_was_not_measured_does_not_pass() -> None:
    outcome = check_gates(
        Gates(max_accuracy_drop=1, min_speedup=0.01), report(accuracy=None, ms=None)
    )
    assert not outcome.passed
    assert [(check.actual, check.passed) for check in outcome.checks] == [(None, False)] * 2


def test_a_better_network_passes_a_gate_of_nothing() -> None:
    assert check_gates(Gates(max_accuracy_drop=0), report(accuracy=0.95)).passed
