"""The ℓ1 costs between the units of a group: ours in blocks, beside torch's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from benchmarks.speed.part import Part, Row, timed
from intrafusion.transport.cost import distances

SIZES = ((256, 1_152), (512, 4_608), (2_048, 5_120))
"""Units, and weights per unit: groups as they are in ResNet-50, the last its widest stream."""
SAME = 1e-3


def measure(device: torch.device) -> Iterator[Row]:
    """Half of the units to the other half; torch has to do all of them to the half."""
    for n, d in SIZES:
        generator = torch.Generator().manual_seed(0)
        units = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)
        units = units.to(device)
        others, targets = units[: n // 2], units[n // 2 :]
        if device.type != "cpu":
            distances(others, targets, 1)  # kernels are loaded when they are first used
        with timed(device) as whole:
            reference = torch.cdist(units, targets, p=1.0)
        with timed(device) as block:
            cost = distances(others, targets, 1)
        yield {
            "n": n,
            "m": n // 2,
            "d": d,
            "torch.cdist, n × m, s": whole.seconds,
            "ours, (n − m) × m, s": block.seconds,
            "times as fast": whole.seconds / block.seconds,
            "largest difference": float((reference[: n // 2] - cost).abs().max()),
        }


def broken(rows: Sequence[Row]) -> list[str]:
    """Costs that are not torch's within what float32 sums differ by."""
    return [
        f"n = {row['n']}: a cost is {row['largest difference']:.1e} from torch's"
        for row in rows
        if float(row["largest difference"]) > SAME
    ]


PART = Part(
    title="Ground cost",
    caption=(
        "ℓ1 distances in float32 between units of d weights. The published code computes n × m "
        "of them with `torch.cdist`; ours needs those of the units that go."
    ),
    elsewhere=(
        "Ours is `torch.cdist` there too, some dimensions after the other and summed in float64."
    ),
    measure=measure,
    broken=broken,
)
