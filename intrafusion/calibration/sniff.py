"""What a dataset file holds, from its headers alone: no torch, no numpy, no pickle."""

from __future__ import annotations

import ast
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TypedDict

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.containers import (
    ZIP_MAGIC,
    DamagedContainerError,
    TensorHeader,
    safetensors_header,
    zip_entries,
)

HOW_TO_MAKE = "Save arrays as numpy.savez(path, inputs=…, labels=…) or as safetensors."

_NPY_MAGIC = b"\x93NUMPY"
_MAX_NPY_HEADER_BYTES = 1 << 20

_NUMPY_DTYPES = {
    "b1": "bool", "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64",
    "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "f2": "float16", "f4": "float32", "f8": "float64", "c8": "complex64", "c16": "complex128",
}  # fmt: skip
_SAFETENSORS_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64",
}  # fmt: skip


class ArrayDescription(TypedDict):
    """Shape and dtype of one array."""

    shape: list[int]
    dtype: str


def check_dataset(path: Path) -> dict[str, ArrayDescription]:
    """Describe every array in a dataset file by name, without reading its values.

    Names are `inputs` (or `inputs_0`, `inputs_1`, … for several inputs), `labels` and `targets`.

    Raises `IntraFusionError` with `NOT_A_DATASET` for another file, a damaged one, or one with
    pickled objects or arrays of other names; `DATASET_WITHOUT_INPUTS`; `DATASET_TOO_SMALL`
    without a sample; and `DATASET_SHAPE_MISMATCH` or `DATASET_LABELS_INVALID` where arrays do
    not have one entry per sample.
    """
    with path.open("rb") as file:
        start = file.read(len(ZIP_MAGIC))
    try:
        headers = _npz_headers(path) if start == ZIP_MAGIC else _safetensors_headers(path)
    except DamagedContainerError as error:
        raise _no_dataset(f"The file cannot be read: {error}.") from error
    arrays: dict[str, ArrayDescription] = {
        name: {"shape": list(header.shape), "dtype": header.dtype}
        for name, header in headers.items()
    }
    check_layout(arrays)
    return arrays


def check_layout(arrays: Mapping[str, ArrayDescription]) -> None:
    """Check names, sample counts and the labels' dtype; raises as `check_dataset` does."""
    inputs = input_names(arrays)
    if not inputs:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise IntraFusionError(
            ErrorCode.DATASET_WITHOUT_INPUTS,
            f"The dataset holds {found}, and no inputs.",
            HOW_TO_MAKE,
            arrays=sorted(arrays),
        )
    others = sorted(set(arrays) - {*inputs, "labels", "targets"})
    if others:
        raise IntraFusionError(
            ErrorCode.NOT_A_DATASET,
            f"The dataset holds {others[0]!r}, which means nothing here.",
            "Name the arrays inputs (or inputs_0, inputs_1, …), labels and targets, and leave out "
            "others.",
            array=others[0],
        )
    counts = {name: _samples(name, arrays[name]["shape"]) for name in inputs}
    samples = counts[inputs[0]]
    for name, count in counts.items():
        if count != samples:
            raise IntraFusionError(
                ErrorCode.DATASET_SHAPE_MISMATCH,
                f"{name} has {count} samples where {inputs[0]} has {samples}.",
                "Give every input the same number of samples, in dimension 0.",
                array=name,
            )
    if samples == 0:
        raise IntraFusionError(
            ErrorCode.DATASET_TOO_SMALL,
            f"{inputs[0]} has no samples: its shape is {arrays[inputs[0]]['shape']}.",
            "Give at least one sample; a few hundred are better.",
            array=inputs[0],
        )
    if "labels" in arrays:
        _check_labels(arrays["labels"], samples)
    if "targets" in arrays:
        _check_targets(arrays["targets"], samples)


def input_names(arrays: Iterable[str]) -> list[str]:
    """The names of the inputs among `arrays`, in order: `inputs`, or `inputs_0`, `inputs_1`, …

    Raises `IntraFusionError` with `DATASET_WITHOUT_INPUTS` where numbers are left out.
    """
    names = set(arrays)
    if "inputs" in names:
        return ["inputs"]
    numbered = [name for name in names if re.fullmatch(r"inputs_\d+", name)]
    expected = [f"inputs_{position}" for position in range(len(numbered))]
    missing = [name for name in expected if name not in names]
    if missing:
        raise IntraFusionError(
            ErrorCode.DATASET_WITHOUT_INPUTS,
            f"The dataset has {', '.join(sorted(numbered))} and lacks {missing[0]}.",
            "Number the inputs from inputs_0 on, in the order the network takes them.",
            arrays=sorted(names),
        )
    return expected


def _samples(name: str, shape: list[int]) -> int:
    if not shape:
        raise IntraFusionError(
            ErrorCode.DATASET_SHAPE_MISMATCH,
            f"{name} is a single number.",
            "Put the samples in dimension 0.",
            array=name,
        )
    return shape[0]


def _check_labels(labels: ArrayDescription, samples: int) -> None:
    shape, dtype = labels["shape"], labels["dtype"]
    if shape != [samples]:
        raise _invalid_labels(
            f"labels have the shape {shape} for {samples} samples.",
            f"Give one class index per sample, shape [{samples}].",
        )
    if not dtype.startswith(("int", "uint")):
        raise _invalid_labels(
            f"labels have the dtype {dtype}.",
            "Give class indices as integers: labels.astype('int64'). Real numbers to come near "
            "to are called targets.",
        )


def _check_targets(targets: ArrayDescription, samples: int) -> None:
    shape, dtype = targets["shape"], targets["dtype"]
    if shape[:1] != [samples]:
        raise IntraFusionError(
            ErrorCode.DATASET_SHAPE_MISMATCH,
            f"targets have the shape {shape} for {samples} samples.",
            "Give the output that is wanted of each sample, samples first.",
            array="targets",
        )
    if "float" not in dtype:
        raise IntraFusionError(
            ErrorCode.DATASET_DTYPE_MISMATCH,
            f"targets have the dtype {dtype}.",
            "Give real numbers; class indices are called labels.",
            array="targets",
        )


def _invalid_labels(message: str, hint: str) -> IntraFusionError:
    return IntraFusionError(ErrorCode.DATASET_LABELS_INVALID, message, hint, array="labels")


def _npz_headers(path: Path) -> dict[str, TensorHeader]:
    entries = zip_entries(path)
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for entry in entries:
            if not entry.filename.endswith(".npy") or "/" in entry.filename:
                raise _no_dataset(
                    f"The file is a zip with {entry.filename!r} in it, which is no array."
                )
            name = entry.filename.removesuffix(".npy")
            try:
                with archive.open(entry) as file:
                    headers[name] = _npy_header(file, name, entry.file_size)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
                raise DamagedContainerError(f"its array {name!r} is damaged ({error})") from error
    return headers


def _npy_header(file: IO[bytes], name: str, size: int) -> TensorHeader:
    """Dtype and shape by the header of one .npy, checked against the bytes after it."""
    start = file.read(8)
    if not start.startswith(_NPY_MAGIC):
        raise DamagedContainerError(f"its array {name!r} does not start as an array does")
    width, code = (2, "<H") if start[6] == 1 else (4, "<I")
    length_bytes = file.read(width)
    if len(length_bytes) < width or (length := struct.unpack(code, length_bytes)[0]) > (
        _MAX_NPY_HEADER_BYTES
    ):
        raise DamagedContainerError(f"its array {name!r} has an impossible header")
    try:
        header = ast.literal_eval(file.read(length).decode("utf-8"))
        descriptor, shape = str(header["descr"]), tuple(int(n) for n in header["shape"])
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedContainerError(f"its array {name!r} has no proper header") from error
    if "O" in descriptor:
        raise _no_dataset(f"The array {name!r} holds Python objects, which need pickle.")
    dtype = _NUMPY_DTYPES.get(descriptor.lstrip("<>|="))
    if dtype is None:
        raise _no_dataset(f"The array {name!r} has the dtype {descriptor}, which is no number.")
    if 8 + width + length + math.prod(shape) * int(descriptor.lstrip("<>|=")[1:]) != size:
        raise DamagedContainerError(f"its array {name!r} has other bytes than its shape says")
    return TensorHeader(dtype, shape)


def _safetensors_headers(path: Path) -> dict[str, TensorHeader]:
    headers = safetensors_header(path)
    if headers is None:
        raise _no_dataset("The file is neither .npz nor safetensors.")
    unknown = [name for name, header in headers.items() if header.dtype not in _SAFETENSORS_DTYPES]
    if unknown:
        raise _no_dataset(
            f"The array {unknown[0]!r} has the dtype {headers[unknown[0]].dtype}, "
            "which no network here takes."
        )
    return {
        name: TensorHeader(_SAFETENSORS_DTYPES[header.dtype], header.shape)
        for name, header in headers.items()
    }


def _no_dataset(message: str) -> IntraFusionError:
    return IntraFusionError(ErrorCode.NOT_A_DATASET, message, HOW_TO_MAKE)
