"""Reading IDX files and augmenting images."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.data import read_idx
from examples.train import augment


def write(path: Path, content: bytes) -> Path:
    with gzip.open(path, "wb") as stream:
        stream.write(content)
    return path


def test_an_idx_file_comes_back_in_its_shape(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = b"\x00\x00\x08\x03" + np.array([2, 3, 4], ">u4").tobytes()
    found = read_idx(write(tmp_path / "images.gz", header + values.tobytes()))
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no IDX file"),
        (b"\x00\x00\x0d\x01" + bytes(8), "no IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abc", r"shape \[5\] but holds 3 bytes"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = write(tmp_path / "labels.gz", content)
    with pytest.raises(ValueError, match=says) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)


def test_augmentation_moves_each_image_by_two_pixels_at_most_and_mirrors_some() -> None:
    images = torch.zeros(400, 1, 28, 28)
    images[:, 0, 10, 5] = 1
    moved = augment(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(400))
    _, _, down, right = moved.nonzero(as_tuple=True)
    assert set((down - 10).tolist()) == {-2, -1, 0, 1, 2}
    mirrored = right > 14
    assert set((right[~mirrored] - 5).tolist()) == {-2, -1, 0, 1, 2}
    assert set((right[mirrored] - 22).tolist()) == {-2, -1, 0, 1, 2}
    assert 150 < mirrored.sum() < 250
