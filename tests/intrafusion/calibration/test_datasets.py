"""Datasets from files, and whether they fit a network."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.numpy import save_file

from intrafusion import ErrorCode, IntraFusionError, load
from intrafusion.calibration import Dataset, check_fits, load_dataset
from intrafusion.calibration.sniff import check_dataset
from tests.intrafusion.program.forms import program_of
from tests.networks import CLASSES, INPUT_SHAPE, samples

Arrays = dict[str, Any]

IMAGES = numpy.zeros((5, *INPUT_SHAPE), dtype=numpy.float32)
LABELS = numpy.arange(5)


def npz(path: Path, arrays: Arrays) -> Path:
    numpy.savez(path, **arrays)
    return path.with_name(path.name + ".npz")


def compressed(path: Path, arrays: Arrays) -> Path:
    numpy.savez_compressed(path, **arrays)
    return path.with_name(path.name + ".npz")


def safetensors(path: Path, arrays: Arrays) -> Path:
    save_file({name: numpy.asarray(a, order="C") for name, a in arrays.items()}, path)
    return path


WRITERS = [npz, compressed, safetensors]


@pytest.mark.parametrize("write", WRITERS)
def test_arrays_come_back(tmp_path: Path, write: Callable[[Path, Arrays], Path]) -> None:
    images = numpy.random.default_rng(0).normal(size=(5, 3, 4)).astype(numpy.float32)
    path = write(tmp_path / "data", {"inputs": images, "labels": LABELS.astype(numpy.uint8)})
    dataset = load_dataset(path)
    assert len(dataset) == 5
    assert dataset.name == path.name
    assert torch.equal(dataset.inputs[0], torch.from_numpy(images))
    assert dataset.labels is not None
    assert dataset.labels.dtype == torch.int64
    assert dataset.labels.tolist() == LABELS.tolist()
    assert check_dataset(path) == {
        "inputs": {"shape": [5, 3, 4], "dtype": "float32"},
        "labels": {"shape": [5], "dtype": "uint8"},
    }


def test_several_inputs_keep_their_order(tmp_path: Path) -> None:
    arrays = {f"inputs_{i}": numpy.full((2, i + 1), i, numpy.float32) for i in (10, *range(10))}
    dataset = load_dataset(npz(tmp_path / "data", arrays))
    assert [int(x[0, 0]) for x in dataset.inputs] == list(range(11))


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", ">i8", "u1", "?"])
def test_every_byte_order_and_layout(tmp_path: Path, dtype: str) -> None:
    array = numpy.asfortranarray(numpy.arange(6).reshape(2, 3).astype(dtype))
    path = npz(tmp_path / "data", {"inputs": array})
    found = load_dataset(path).inputs[0]
    assert found.tolist() == array.tolist()
    assert check_dataset(path)["inputs"]["dtype"] == str(found.dtype).removeprefix("torch.")


def test_batches_hold_every_sample_once_and_in_order() -> None:
    dataset = Dataset((torch.arange(7), torch.arange(7) * 2), torch.arange(7))
    batches = list(dataset.batches(3))
    assert [len(labels) for _, labels in batches if labels is not None] == [3, 3, 1]
    assert torch.cat([inputs[1] for inputs, _ in batches]).tolist() == list(range(0, 14, 2))


# --- files that are refused -----------------------------------------------------------------


def refusal(path: Path) -> IntraFusionError:
    """The error of `load_dataset`, which the light check has to give as well."""
    with pytest.raises(IntraFusionError) as light:
        check_dataset(path)
    with pytest.raises(IntraFusionError) as caught:
        load_dataset(path)
    assert (light.value.code, light.value.message) == (caught.value.code, caught.value.message)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("arrays", "code", "word"),
    [
        ({"labels": LABELS}, ErrorCode.DATASET_WITHOUT_INPUTS, "labels"),
        ({"images": IMAGES}, ErrorCode.DATASET_WITHOUT_INPUTS, "images"),
        ({"inputs_1": IMAGES}, ErrorCode.DATASET_WITHOUT_INPUTS, "inputs_0"),
        ({"inputs": IMAGES, "label": LABELS}, ErrorCode.NOT_A_DATASET, "'label'"),
        ({"inputs": IMAGES, "inputs_0": IMAGES}, ErrorCode.NOT_A_DATASET, "'inputs_0'"),
        (
            {"inputs_0": IMAGES, "inputs_1": IMAGES[:4]},
            ErrorCode.DATASET_SHAPE_MISMATCH,
            "inputs_1 has 4 samples where inputs_0 has 5",
        ),
        ({"inputs": IMAGES[:0]}, ErrorCode.DATASET_TOO_SMALL, "no samples"),
        ({"inputs": numpy.float32(1)}, ErrorCode.DATASET_SHAPE_MISMATCH, "single number"),
        ({"inputs": IMAGES, "labels": LABELS[:4]}, ErrorCode.DATASET_LABELS_INVALID, "[4]"),
        (
            {"inputs": IMAGES, "labels": LABELS[:, None]},
            ErrorCode.DATASET_LABELS_INVALID,
            "[5, 1]",
        ),
        (
            {"inputs": IMAGES, "labels": LABELS.astype(numpy.float32)},
            ErrorCode.DATASET_LABELS_INVALID,
            "float32",
        ),
        (
            {"inputs": IMAGES, "labels": LABELS.astype(bool)},
            ErrorCode.DATASET_LABELS_INVALID,
            "bool",
        ),
    ],
)
def test_arrays_that_make_no_dataset(
    tmp_path: Path,
    write: Callable[[Path, Arrays], Path],
    arrays: Arrays,
    code: ErrorCode,
    word: str,
) -> None:
    error = refusal(write(tmp_path / "data", arrays))
    assert error.code is code
    assert word in error.message


def test_pickled_objects(tmp_path: Path) -> None:
    error = refusal(npz(tmp_path / "data", {"inputs": numpy.array([{"a": 1}, None])}))
    assert error.code is ErrorCode.NOT_A_DATASET
    assert "pickle" in error.message


@pytest.mark.parametrize("array", [numpy.array(["a", "b"]), numpy.array(["2020"], "M8[D]")])
def test_arrays_that_are_no_numbers(tmp_path: Path, array: Any) -> None:
    assert refusal(npz(tmp_path / "data", {"inputs": array})).code is ErrorCode.NOT_A_DATASET


@pytest.mark.parametrize("content", [b"", b"inputs", bytes(1000), b"PK\x03\x04 and no more"])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data").write_bytes(content)
    assert refusal(tmp_path / "data").code is ErrorCode.NOT_A_DATASET


@pytest.mark.parametrize("write", WRITERS)
def test_cut_files(tmp_path: Path, write: Callable[[Path, Arrays], Path]) -> None:
    path = write(tmp_path / "data", {"inputs": IMAGES})
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(path).code is ErrorCode.NOT_A_DATASET


def test_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("inputs.csv", "1,2")
    error = refusal(tmp_path / "data.npz")
    assert error.code is ErrorCode.NOT_A_DATASET
    assert "inputs.csv" in error.message


@pytest.mark.parametrize(
    "header", [b"{}", b"{'descr': '<f4'}", b"__import__('os')", b"[" * 10_000, b"\xff"]
)
def test_array_headers_that_are_none(tmp_path: Path, header: bytes) -> None:
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("inputs.npy", npy)
    assert refusal(tmp_path / "data.npz").code is ErrorCode.NOT_A_DATASET


def test_array_shorter_than_its_header_says(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    numpy.save(buffer, IMAGES)
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("inputs.npy", buffer.getvalue()[:-4])
    assert "other bytes" in refusal(tmp_path / "data.npz").message


def test_damage_that_only_reading_finds(tmp_path: Path) -> None:
    images = numpy.random.default_rng(0).normal(size=(50, 40)).astype(numpy.float32)
    path = compressed(tmp_path / "data", {"inputs": images})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    check_dataset(path)
    with pytest.raises(IntraFusionError) as caught:
        load_dataset(path)
    assert caught.value.code is ErrorCode.NOT_A_DATASET


# --- datasets that do not fit ---------------------------------------------------------------


def misfit(dataset: Dataset) -> IntraFusionError:
    with pytest.raises(IntraFusionError) as caught:
        check_fits(dataset, program_of("vgg"))
    assert caught.value.hint
    assert "samples" in caught.value.message
    return caught.value


def test_what_fits() -> None:
    check_fits(Dataset((samples(3),), torch.tensor([0, 5, 9])), program_of("vgg"))


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 1, 16, 16), (3, 3, 16, 17), (3, 16, 16, 3)])
def test_other_shapes(shape: tuple[int, ...]) -> None:
    error = misfit(Dataset((torch.zeros(shape),)))
    assert error.code is ErrorCode.DATASET_SHAPE_MISMATCH
    assert str(list(shape[1:])) in error.message
    assert "[3, 16, 16]" in error.message
    assert error.details["array"] == "inputs"


def test_other_number_of_inputs() -> None:
    error = misfit(Dataset((samples(3), samples(3))))
    assert error.code is ErrorCode.DATASET_SHAPE_MISMATCH


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.float16, torch.int64])
def test_other_dtypes_are_not_converted(dtype: torch.dtype) -> None:
    error = misfit(Dataset((samples(3).to(dtype),)))
    assert error.code is ErrorCode.DATASET_DTYPE_MISMATCH
    assert str(dtype).removeprefix("torch.") in error.message
    assert "inputs.astype('float32')" in error.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_first_bad_value_is_named(value: float) -> None:
    x = samples(4)
    x[2, 1, 3, 15] = value
    x[3] = value
    error = misfit(Dataset((x,)))
    assert error.code is ErrorCode.DATASET_NOT_FINITE
    assert "2 of 4 samples" in error.message
    assert error.details["index"] == [2, 1, 3, 15]


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ([0, 1], "shape [2]"),
        ([0, -1, 2], "-1 at index 1"),
        ([0, 1, CLASSES], "10 at index 2"),
        ([0.0, 1.0, 2.0], "float32"),
        ([True, False, True], "bool"),
    ],
)
def test_labels_that_are_no_classes(labels: list[float], word: str) -> None:
    error = misfit(Dataset((samples(3),), torch.tensor(labels)))
    assert error.code is ErrorCode.DATASET_LABELS_INVALID
    assert word in error.message


def test_labels_for_a_network_without_classes() -> None:
    network = load(torch.nn.Conv2d(3, 4, 3), input_shapes=[(1, *INPUT_SHAPE)])
    with pytest.raises(IntraFusionError, match="no class scores") as caught:
        check_fits(Dataset((samples(3),), torch.zeros(3, dtype=torch.int64)), network)
    assert caught.value.code is ErrorCode.DATASET_LABELS_INVALID
