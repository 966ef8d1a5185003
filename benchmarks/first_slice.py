"""Half of every group's channels removed, no fine-tuning, beside what others do.

    python -m benchmarks.first_slice

The two trained example networks, all methods on the same 256 unlabelled images or none,
measured on all 10,000 test images of Fashion-MNIST. Peers may choose among their criteria on
5,000 labelled training images that no network was trained on; ours gets no labels. Writes
results/first_slice.md and .json; exits 1 where ours loses more than the project promises.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import intrafusion
from benchmarks.measure import Size, accuracy, predict, size
from benchmarks.peers import magnitude, published_intra_fusion
from examples.data import HELD_OUT
from examples.trained import Trained, trained

RESULTS = Path(__file__).resolve().parent / "results"
SPARSITY = 0.5
PROMISED_POINTS = {"fashion_vgg": 3.0, "fashion_resnet": 5.0}
OURS = "Intra-Fusion, calibrated"


@dataclass(frozen=True)
class Row:
    """One method on one network."""

    network: str
    method: str
    data: str
    accuracy: float
    agreement: float
    parameters: int
    macs: int
    seconds: float


def row(
    bench: Trained, method: str, data: str, predicted: Tensor, counted: Size, seconds: float
) -> Row:
    """What a method made of the network, measured on the test images."""
    agreement = (predicted == predict(bench.network, bench.test)).float().mean().item()
    return Row(
        bench.name,
        method,
        data,
        accuracy(predicted, bench.test),
        agreement,
        counted.parameters,
        counted.macs,
        seconds,
    )


def original(bench: Trained) -> Iterator[Row]:
    """The network as it was trained."""
    predicted = predict(bench.network, bench.test)
    yield row(bench, "original", "", predicted, size(bench.network), 0.0)


def ours(bench: Trained) -> Iterator[Row]:
    """From the TorchScript file, as a user would, with and without calibration images."""
    # Every group loses its half, in closed form: neither an allocation nor the joint refit helps.
    spec = intrafusion.CompressionSpec(
        sparsity=SPARSITY, importance="l1", allocation="uniform", joint_steps=0
    )
    for method, data, samples in (
        (OURS, "256 unlabelled", bench.calibration),
        ("Intra-Fusion, data-free", "none", None),
    ):
        began = time.perf_counter()
        result = intrafusion.compress(bench.program, spec, calibration=samples)
        seconds = time.perf_counter() - began
        counted = Size(result.report.after.parameters, result.report.after.macs)
        yield row(bench, method, data, predict(result.program, bench.test), counted, seconds)


def magnitude_pruning(bench: Trained) -> Iterator[Row]:
    """Torch-Pruning, each time with the criterion that does best on the held-out images."""
    for method, data, estimate in (
        ("Torch-Pruning 1.6.1", "none", False),
        ("Torch-Pruning 1.6.1 + batch norm re-estimated", "256 unlabelled", True),
    ):
        best: tuple[float, str, nn.Module, float] | None = None
        for criterion in magnitude.CRITERIA:
            began = time.perf_counter()
            pruned = magnitude.prune(bench.network, SPARSITY, criterion)
            if estimate:
                pruned = magnitude.reestimate_batch_norm(pruned, bench.calibration.inputs[0])
            seconds = time.perf_counter() - began
            score = accuracy(predict(pruned, bench.held_out), bench.held_out)
            if best is None or score > best[0]:
                best = (score, criterion, pruned, seconds)
        assert best is not None
        _, criterion, pruned, seconds = best
        yield row(
            bench,
            f"{method}, {criterion}",
            data,
            predict(pruned, bench.test),
            size(pruned),
            seconds,
        )


def published(bench: Trained) -> Iterator[Row]:
    """Intra-Fusion as its authors published it."""
    began = time.perf_counter()
    fused = published_intra_fusion.compress(bench.network, SPARSITY)
    seconds = time.perf_counter() - began
    predicted = predict(fused, bench.test)
    yield row(bench, "Intra-Fusion as published", "none", predicted, size(fused), seconds)


def as_markdown(rows: list[Row]) -> str:
    """The table, with the machine it was measured on."""
    lines = [
        "# Half of every group's channels, no fine-tuning",
        "",
        (
            f"`python -m benchmarks.first_slice` · Fashion-MNIST, 10,000 test images · torch "
            f"{torch.__version__}, {torch.get_num_threads()} threads, Python "
            f"{platform.python_version()}"
        ),
        "",
        "| network | method | data | accuracy | agreement | parameters | MACs | seconds |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        bold = "**" if row.method == OURS else ""
        lines.append(
            f"| {row.network} | {bold}{row.method}{bold} | {row.data} "
            f"| {bold}{row.accuracy * 100:.2f}{bold} | {row.agreement * 100:.2f} "
            f"| {row.parameters:,} | {row.macs:,} | {row.seconds:.1f} |"
        )
    lines += [
        "",
        (
            "Accuracy and agreement with the original in per cent. Torch-Pruning runs with the one "
            f"of its criteria ({', '.join(magnitude.CRITERIA)}) that is best on {HELD_OUT:,} "
            "labelled training images no network was trained on. Seconds leave out loading the "
            "network."
        ),
    ]
    return "\n".join(lines) + "\n"


def missed(rows: list[Row]) -> list[str]:
    """What ours promises and does not keep, in words."""
    accuracies = {(row.network, row.method): row.accuracy for row in rows}
    faults = []
    for name, points in PROMISED_POINTS.items():
        lost = (accuracies[name, "original"] - accuracies[name, OURS]) * 100
        if lost > points:
            faults.append(f"{name} lost {lost:.2f} points of accuracy, more than {points}")
    return faults


def main() -> None:
    rows: list[Row] = []
    for bench in trained(PROMISED_POINTS):
        for method in (original, ours, magnitude_pruning, published):
            for found in method(bench):
                print(f"{found.network}  {found.method}: {found.accuracy:.4f}", file=sys.stderr)
                rows.append(found)
    RESULTS.mkdir(exist_ok=True)
    table = as_markdown(rows)
    (RESULTS / "first_slice.md").write_text(table)
    (RESULTS / "first_slice.json").write_text(
        json.dumps([asdict(row) for row in rows], indent=2) + "\n"
    )
    print(table)
    if faults := missed(rows):
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
