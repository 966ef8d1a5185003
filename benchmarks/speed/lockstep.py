"""The lockstep refit of a ResNet-50 beside one forward pass of both programs, by samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

import intrafusion
from benchmarks.architectures import torchvision
from benchmarks.speed.memory import held, peak
from benchmarks.speed.part import Part, Row, timed
from intrafusion.channels import analyse, remove
from intrafusion.compensation import refit
from intrafusion.folding import fold_batch_norm
from intrafusion.fusion import fuse, selection_map

SAMPLES = (64, 256)
SIZE = 224
FORWARD_BATCH = 8
PROMISED_TIMES = 5.0
PROMISED_GB = 6.0
FLAT = 1.2
"""How much more time a sample, or memory all of them, may take where there are more."""


def network() -> nn.Module:
    """A ResNet-50 with random weights."""
    torch.manual_seed(0)
    return torchvision("resnet50")().eval()


def measure(device: torch.device) -> Iterator[Row]:
    """Every second unit of every group kept, then refitted on random images."""
    program = intrafusion.load(network(), input_shapes=[(1, 3, SIZE, SIZE)]).to(device)
    analysis = analyse(fold_batch_norm(program).program)
    maps = {g: selection_map(torch.arange(0, len(g), 2), len(g)) for g in analysis.groups}
    kept = {group: mapping.kept for group, mapping in maps.items()}
    removal = remove(analysis, kept, fuse(analysis, maps))
    for count in SAMPLES:
        images = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        images = images.to(device)
        if device.type != "cpu":
            removal.program.outputs(images[:FORWARD_BATCH])  # kernels are loaded at first use
        with timed(device) as forward:
            for batch in images.split(FORWARD_BATCH):
                analysis.program.outputs(batch)
                removal.program.outputs(batch)
        before = held(device)
        with timed(device) as lockstep:
            fitted = refit(analysis, removal, maps, (images,))
        yield {
            "images": count,
            "layers": fitted.layers,
            "forward s": forward.seconds,
            "lockstep s": lockstep.seconds,
            "times one forward": lockstep.seconds / forward.seconds,
            "peak GB": (peak(device) - before) / 1e9,
            "process GB" if device.type == "cpu" else "all GB": peak(device) / 1e9,
        }


def broken(rows: Sequence[Row]) -> list[str]:
    """Time and memory at the largest number of images, and how flat they are."""
    first, last = rows[0], rows[-1]
    faults = []
    if float(last["times one forward"]) > PROMISED_TIMES:
        faults.append(f"the lockstep took {last['times one forward']:.1f} forward passes")
    if float(last["process GB"]) > PROMISED_GB:
        faults.append(f"the lockstep held {last['process GB']:.1f} GB")
    faults += [
        f"{what} grew from {first[what]:.2f} to {last[what]:.2f}"
        for what in ("times one forward", "peak GB")
        if float(last[what]) > FLAT * float(first[what])
    ]
    return faults


PART = Part(
    title="Lockstep",
    caption=(
        "A ResNet-50 with random weights, batch norms folded, every second unit of every group "
        f"kept; images of 3×{SIZE}×{SIZE}. Forward: the original and the compressed program once "
        f"over the same images, {FORWARD_BATCH} at a time. Peak: memory of the refit beyond what "
        "the process held, images included there; values put aside on disk do not count."
    ),
    elsewhere="There memory is the device's, and a share of it takes what is put aside.",
    measure=measure,
    broken=broken,
)
