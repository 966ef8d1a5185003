"""Samples from files: .npz and .safetensors with `inputs` and, if known, `labels` or `targets`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from intrafusion.batches import held_out
from intrafusion.calibration.sniff import HOW_TO_MAKE, check_dataset, input_names
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.program import Program


@dataclass(frozen=True)
class Dataset:
    """Samples for one network.

    Attributes:
        inputs: one tensor per input of the network, each (samples, …).
        labels: class indices (samples,), or None.
        name: where they come from, for messages.
        targets: what the first output should be, of its shape (samples, …), or None.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor | None = None
    name: str = "samples"
    targets: Tensor | None = None

    def __len__(self) -> int:
        return self.inputs[0].shape[0]

    def to(self, device: torch.device | str) -> Dataset:
        """The same samples on `device`."""
        return replace(
            self,
            inputs=tuple(x.to(device) for x in self.inputs),
            labels=None if self.labels is None else self.labels.to(device),
            targets=None if self.targets is None else self.targets.to(device),
        )

    def split(self, every: int) -> tuple[Dataset, Dataset]:
        """Two datasets: all samples but each `every`-th, and these."""
        held = held_out(len(self), every)
        return self._part(~held), self._part(held)

    def _part(self, mask: Tensor) -> Dataset:
        return replace(
            self,
            inputs=tuple(x[mask.to(x.device)] for x in self.inputs),
            labels=None if self.labels is None else self.labels[mask.to(self.labels.device)],
            targets=None if self.targets is None else self.targets[mask.to(self.targets.device)],
        )

    def batches(self, size: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None]]:
        """The samples in order, `size` at a time (the last batch may be smaller), with labels."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            labels = None if self.labels is None else self.labels[part]
            yield tuple(x[part] for x in self.inputs), labels


def load_dataset(path: str | Path) -> Dataset:
    """Read a dataset of the arrays `inputs` (or `inputs_0`, `inputs_1`, …), `labels`, `targets`.

    Labels come out as int64 (samples,). Raises `IntraFusionError` as
    `intrafusion.calibration.sniff.check_dataset` does; no pickle is ever read.
    """
    path = Path(path)
    check_dataset(path)
    tensors = _read_npz(path) if zipfile.is_zipfile(path) else _read_safetensors(path)
    labels = tensors.get("labels")
    return Dataset(
        inputs=tuple(tensors[name] for name in input_names(tensors)),
        labels=None if labels is None else labels.to(torch.int64),
        name=path.name,
        targets=tensors.get("targets"),
    )


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with numpy.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _damaged(path, error) from error
    # Copies in native byte order: torch takes no other, nor a read-only array.
    return {
        name: torch.from_numpy(numpy.array(array, dtype=array.dtype.newbyteorder("=")))
        for name, array in arrays.items()
    }


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.NOT_A_DATASET, f"{path.name} cannot be read: {error}.", HOW_TO_MAKE
    )


def check_fits(dataset: Dataset, program: Program) -> None:
    """Check that a program can run on the samples and that the labels are its classes.

    Nothing is converted: a wrong scale or a lost digit would pass for a bad network.

    Raises `IntraFusionError` with `DATASET_SHAPE_MISMATCH`, `DATASET_DTYPE_MISMATCH`,
    `DATASET_NOT_FINITE` or `DATASET_LABELS_INVALID`, naming the array, what was found and what
    was expected.
    """
    expected = program.example_inputs
    if len(dataset.inputs) != len(expected):
        raise IntraFusionError(
            ErrorCode.DATASET_SHAPE_MISMATCH,
            f"{dataset.name} has {len(dataset.inputs)} inputs and the network takes "
            f"{len(expected)}.",
            "Name them inputs_0, inputs_1, … in the order the network takes them.",
        )
    for position, (found, example) in enumerate(zip(dataset.inputs, expected, strict=True)):
        name = "inputs" if len(expected) == 1 else f"inputs_{position}"
        _check_input(f"{dataset.name}: {name}", name, found, example)
    if dataset.labels is not None:
        _check_labels(dataset, dataset.labels, program)
    if dataset.targets is not None:
        _check_targets(dataset, dataset.targets, program)


def _check_input(what: str, array: str, found: Tensor, example: Tensor) -> None:
    if found.shape[1:] != example.shape[1:]:
        raise IntraFusionError(
            ErrorCode.DATASET_SHAPE_MISMATCH,
            f"{what} has samples of shape {list(found.shape[1:])}; the network takes "
            f"{list(example.shape[1:])}.",
            "Give the samples as the network sees them, batch first; images are "
            "channels, height, width.",
            array=array,
            found=list(found.shape),
            expected=["batch", *example.shape[1:]],
        )
    if found.dtype != example.dtype:
        found_name, expected_name = _name(found.dtype), _name(example.dtype)
        raise IntraFusionError(
            ErrorCode.DATASET_DTYPE_MISMATCH,
            f"{what} has the dtype {found_name}; the network takes {expected_name}.",
            _how_to_convert(found.dtype, array, expected_name),
            array=array,
            found=found_name,
            expected=expected_name,
        )
    if found.is_floating_point():
        finite = found.reshape(found.shape[0], -1).isfinite().all(dim=1)
        if not finite.all():
            first = int((~finite).nonzero()[0])
            index = (~found[first].isfinite()).nonzero()[0].tolist()
            raise IntraFusionError(
                ErrorCode.DATASET_NOT_FINITE,
                f"{what} has NaN or infinity in {int((~finite).sum())} of {len(finite)} "
                f"samples, first at {[first, *index]}.",
                "Remove or repair these samples.",
                array=array,
                index=[first, *index],
            )


def _how_to_convert(dtype: torch.dtype, array: str, expected: str) -> str:
    if dtype == torch.uint8:
        return (
            "Convert the images as in training before saving, such as "
            f"({array}.astype('{expected}') / 255 − mean) / std."
        )
    return f"Convert before saving: {array}.astype('{expected}')."


def _check_labels(dataset: Dataset, labels: Tensor, program: Program) -> None:
    def invalid(message: str, hint: str, **details: object) -> IntraFusionError:
        return IntraFusionError(
            ErrorCode.DATASET_LABELS_INVALID,
            f"{dataset.name}: {message}",
            hint,
            array="labels",
            **details,
        )

    if labels.shape != (len(dataset),):
        raise invalid(
            f"labels have the shape {list(labels.shape)} for {len(dataset)} samples.",
            f"Give one class index per sample, shape [{len(dataset)}].",
        )
    if labels.dtype.is_floating_point or labels.dtype in (torch.bool, torch.complex64):
        raise invalid(
            f"labels have the dtype {_name(labels.dtype)}.",
            "Give class indices as integers: labels.astype('int64').",
        )
    outputs = program.outputs(*program.example_inputs)
    if len(outputs) == 0 or outputs[0].dim() != 2:
        shape = list(outputs[0].shape) if outputs else []
        raise invalid(
            f"there are labels, and the network's output of shape {shape} is no class scores.",
            "Leave the labels out.",
        )
    classes = outputs[0].shape[1]
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise invalid(
            f"label {int(labels[first])} at index {first} is none of the network's {classes} "
            f"classes, and {len(wrong)} of {len(labels)} labels are wrong so.",
            f"Number the classes from 0 to {classes - 1}, in the order of the outputs.",
            index=first,
            classes=classes,
        )


def _check_targets(dataset: Dataset, targets: Tensor, program: Program) -> None:
    outputs = program.outputs(*program.example_inputs)
    expected = [len(dataset), *outputs[0].shape[1:]] if outputs else []
    if list(targets.shape) != expected:
        raise IntraFusionError(
            ErrorCode.DATASET_SHAPE_MISMATCH,
            f"{dataset.name}: targets have the shape {list(targets.shape)}; the network's first "
            f"output has {expected} for so many samples.",
            "Give what the output should be, sample by sample, in its own shape.",
            array="targets",
            found=list(targets.shape),
            expected=expected,
        )
    if not bool(targets.isfinite().all()):
        raise IntraFusionError(
            ErrorCode.DATASET_NOT_FINITE,
            f"{dataset.name}: targets have NaN or infinity.",
            "Remove or repair these samples.",
            array="targets",
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
