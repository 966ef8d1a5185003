"""How much faster a network runs that has lost half of its channels, beside what its MACs say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

import intrafusion
from benchmarks.architectures import named
from benchmarks.speed.part import Part, Row
from intrafusion import CompressionSpec, Program
from intrafusion.evaluation import latencies, macs

NETWORKS = ("resnet18", "resnet50", "vgg11_bn", "mobilenet_v2")
SHAPE = (3, 224, 224)
BATCHES = (1, 32)
ROUND_TO = (None, 1)
ROUND_TO_ELSEWHERE = (None, 1, 16)
"""None: as by default."""
PRECISIONS_ELSEWHERE = (torch.float32, torch.float16)
"""On devices other than the CPU: GPUs multiply 8 numbers of float16 at a time."""
SPARSITY = 0.5
SECONDS = 4.0
"""Of turns, for each sample of a batch: a sample takes up to 0.7."""
PROMISED = 0.7
"""Of the ratio of MACs, by default."""
DEFAULT = "default"


def measure(device: torch.device) -> Iterator[Row]:
    """Default widths and any number take turns with the original.

    Where a choice of widths gives the same network as one before, it has no row.
    """
    if device.type == "cpu":
        for name in NETWORKS:
            yield from _rows(name, device, torch.float32, ROUND_TO)
        return
    for name in NETWORKS:
        for precision in PRECISIONS_ELSEWHERE:
            for row in _rows(name, device, precision, ROUND_TO_ELSEWHERE):
                yield {"precision": str(precision).removeprefix("torch."), **row}


def _rows(
    name: str, device: torch.device, precision: torch.dtype, rounded: Sequence[int | None]
) -> Iterator[Row]:
    """One network at every batch and width."""
    module = named(name).build().eval().to(device, precision)
    program = intrafusion.load(
        module,
        input_shapes=[(1, *SHAPE)],
        input_dtypes=[str(precision).removeprefix("torch.")],
    )
    small: dict[int, tuple[str, Program]] = {}
    for round_to in rounded:
        spec = CompressionSpec(sparsity=SPARSITY, compensation="none", round_to=round_to)
        made = intrafusion.compress(program, spec, device=device).program
        widths = DEFAULT if round_to is None else f"round_to={round_to}"
        small.setdefault(macs(made), (widths, made))
    for batch in BATCHES:
        programs = [made for _, made in small.values()]
        whole, *times = latencies([program, *programs], batch=batch, seconds=SECONDS * batch)
        for (count, (widths, _)), time in zip(small.items(), times, strict=True):
            ratio, faster = macs(program) / count, whole.median_ms / time.median_ms
            yield {
                "network": name,
                "batch": batch,
                "widths": widths,
                "original ms": whole.median_ms,
                "compressed ms": time.median_ms,
                "times as fast": faster,
                "MACs, original / compressed": ratio,
                "share of it": faster / ratio,
            }


def broken(rows: Sequence[Row]) -> list[str]:
    """What runs less fast than its MACs promise, of what users get who ask for no widths."""
    return [
        f"{row['network']} at batch {row['batch']}: {row['share of it']:.2f} of the ratio of MACs"
        for row in rows
        if row["widths"] == DEFAULT and float(row["share of it"]) < PROMISED
    ]


PART = Part(
    title="Compressed networks",
    caption=(
        "Half of all channels gone, images of 3×224×224, as TorchScript on one thread, medians of "
        "runs that take turns with the original. "
        f"Promised is {PROMISED} of the ratio of multiply-accumulates, for the default widths. "
        "Those of `round_to` stand beside them where they differ."
    ),
    elsewhere="There the medians are of TorchScript on the device.",
    measure=measure,
    broken=broken,
)
