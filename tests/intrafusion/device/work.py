"""What the process that has the device does; see conftest.py."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import intrafusion
from intrafusion import CompressionSpec, Dataset, Program, compress, devices, load
from intrafusion.channels import analyse, remove
from intrafusion.compensation import refit
from intrafusion.folding import fold_batch_norm
from intrafusion.fusion import fuse, selection_map
from tests.intrafusion.device.accelerator import Accelerator
from tests.intrafusion.programs import example, program_of, trained_looking
from tests.networks import NETWORKS

EXAMPLES = Path(__file__).parents[3] / "examples"
SAMPLES = 160

_ready: list[Accelerator] = []


def begin(library: Path) -> None:
    """Give this process the device."""
    _ready.append(Accelerator(library))
    # Torch's threads for gradients on a device may outlive the interpreter, and abort the process
    # then. Nothing is left to be done by that time.
    atexit.register(os._exit, 0)


def accelerator() -> Accelerator:
    return _ready[0]


@dataclass(frozen=True)
class Compared:
    """What one compression gave on the device and on the CPU.

    Attributes:
        distance: of the outputs, relative to their length.
        units: by group.
        kept: of them by group, on the device and on the CPU.
        place: the kind of device that the device's result is on.
        layers: how many were refitted on the device.
        samples: bytes of the calibration samples.
        result: bytes of the device's result.
        to_host: bytes copied from the device to the CPU.
        waits: how often the CPU waited for the device.
    """

    distance: float
    units: list[int]
    kept: tuple[list[int], list[int]]
    place: str
    layers: int
    samples: int
    result: int
    to_host: int
    waits: int


def compare(
    name: str, spec: dict[str, Any], *, given: bool = True, labelled: bool = False
) -> Compared:
    """The network of the tests called `name`, with random samples if they are `given`."""
    inputs, labels = (example(SAMPLES, seed=7),), torch.arange(SAMPLES) % 10
    calibration = Dataset(inputs, labels if labelled else None)
    evaluation = Dataset((example(64, seed=3),), labels[:64])
    return _compared(program_of(name), spec, calibration if given else None, evaluation)


def compare_example(name: str, data: str, spec: dict[str, Any]) -> Compared:
    """The trained example network called `name`, with its calibration samples."""
    calibration = intrafusion.load_dataset(EXAMPLES / f"{data}_calibration.npz")
    evaluation = Dataset(tuple(x[:64] for x in calibration.inputs))
    program = load(EXAMPLES / f"{name}.pt", example_inputs=tuple(x[:2] for x in calibration.inputs))
    return _compared(program, spec, calibration, evaluation)


def _compared(
    program: Program, spec: dict[str, Any], calibration: Dataset | None, evaluation: Dataset
) -> Compared:
    # Few samples would have others made beside them, which takes long on this device.
    alone = {} if calibration is None else {"compensation": "calibration"}
    asked = CompressionSpec(**{**alone, **spec})
    here = compress(program, asked, calibration, evaluation, device="cpu")
    before = accelerator().bytes_to_host, accelerator().waits
    there = compress(program, asked, calibration, evaluation, device=accelerator().device)
    after = accelerator().bytes_to_host, accelerator().waits
    inputs, results = evaluation.inputs, (there, here)
    return Compared(
        distance=_distance(*(result.program.outputs(*inputs) for result in results)),
        units=[group.units for group in there.report.groups],
        kept=tuple([group.kept for group in result.report.groups] for result in results),
        place=there.program.device.type,
        layers=there.report.compensation.layers,
        samples=0 if calibration is None else _bytes(calibration.inputs),
        result=_bytes(there.program.tensors.values()),
        to_host=after[0] - before[0],
        waits=after[1] - before[1],
    )


def refit_distance(name: str) -> float:
    """How far a refit that puts everything aside on disk is from one that has room for it."""
    program = program_of(name).to(accelerator().device)
    analysis = analyse(fold_batch_norm(program).program)
    maps = {g: selection_map(torch.arange(0, len(g), 2), len(g)) for g in analysis.groups}
    kept = {group: mapping.kept for group, mapping in maps.items()}
    samples = (example(32).to(program.device),)
    found = []
    for devices.ON_CPU in (0, 1 << 30):
        removal = remove(analysis, kept, fuse(analysis, maps))
        fitted = refit(analysis, removal, maps, samples)
        found.append(replace(removal.program, tensors=fitted.tensors).outputs(*samples))
    return _distance(*found)


def save(folder: Path, endings: Sequence[str]) -> NDArray[np.float32]:
    """Write a result that is on the device in every format; its outputs on `example()`."""
    program = program_of("vgg").to(accelerator().device)
    result = compress(program, CompressionSpec(compensation="none"), device=program.device).program
    assert result.device == program.device
    for ending in endings:
        result.save(folder / f"small{ending}")
    return result(example().to(result.device)).cpu().numpy()


def shrink(path: Path) -> tuple[str, float]:
    """Shrink the network's module on the device to a file; where it is, and how far its outputs
    are from the file's."""
    program = program_of("vgg")
    result = compress(program, CompressionSpec(compensation="none"), device="cpu").program
    module = trained_looking(NETWORKS["vgg"]()).to(accelerator().device)
    intrafusion.resize_(module, result.save(path))
    output = module(example().to(accelerator().device))
    return output.device.type, _distance([output.cpu()], result.outputs(example()))


def load_there(name: str) -> tuple[str, float]:
    """A module on the device as a program: where that is, and how far its outputs are from those
    of the module on the CPU."""
    module = trained_looking(NETWORKS[name]())
    wanted = module(example())
    program = load(module.to(accelerator().device), example_inputs=(example(),))
    found = program.outputs(example().to(program.device))
    return program.device.type, _distance([x.cpu() for x in found], [wanted])


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float((a - b).double().norm() / b.double().norm()) for a, b in pairs)
