"""Reading IDX files, making tones, splitting and augmenting."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.data import Labelled, data_for
from examples.data.idx import read_idx
from examples.data.labelled import DataSet
from examples.data.text import WINDOW, windows
from examples.data.tones import LABELS, LOWEST, RATE, draw
from examples.recipes import moved_and_mirrored


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


def test_an_unzipped_idx_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x03abc")
    assert read_idx(path).tolist() == [97, 98, 99]


def test_the_loudest_pitch_of_a_tone_is_its_label() -> None:
    sounds = draw(300, seed=5)
    spectrum = np.abs(np.fft.rfft(sounds.inputs[:, 0], n=1 << 16))
    pitch = spectrum[:, :16_000].argmax(1) * RATE / (1 << 16)
    semitone = np.round(12 * np.log2(pitch / LOWEST)).astype(int)
    # Noise or an overtone is louder now and then.
    assert (semitone % len(LABELS) == sounds.labels).mean() > 0.8
    assert np.bincount(sounds.labels, minlength=len(LABELS)).min() > 0


def test_tones_are_the_same_in_every_run() -> None:
    first, second = data_for("tones_conv"), data_for("tones_conv")
    np.testing.assert_array_equal(first.test.inputs, second.test.inputs)
    np.testing.assert_array_equal(first.calibration, second.calibration)
    assert not np.array_equal(first.test.labels[:100], first.training.labels[:100])


def test_no_sample_is_both_learnt_from_and_held_out() -> None:
    numbers = np.arange(9_000)
    data = DataSet.split(
        Labelled(numbers[:, None].astype(np.float32), numbers),
        Labelled(-np.ones((1, 1), np.float32), numbers[:1]),
    )
    assert (len(data.training), len(data.held_out)) == (4_000, 5_000)
    assert not set(data.training.labels) & set(data.held_out.labels)
    assert len(data.calibration) == 256
    assert set(data.calibration[:, 0]) <= set(data.training.inputs[:, 0])


def test_augmentation_moves_each_image_by_two_pixels_at_most_and_mirrors_some() -> None:
    images = torch.zeros(400, 1, 28, 28)
    images[:, 0, 10, 5] = 1
    moved = moved_and_mirrored(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(400))
    _, _, down, right = moved.nonzero(as_tuple=True)
    assert set((down - 10).tolist()) == {-2, -1, 0, 1, 2}
    mirrored = right > 14
    assert set((right[~mirrored] - 5).tolist()) == {-2, -1, 0, 1, 2}
    assert set((right[mirrored] - 22).tolist()) == {-2, -1, 0, 1, 2}
    assert 150 < mirrored.sum() < 250


def test_a_window_of_text_is_followed_by_its_label() -> None:
    text = bytes(range(1, 101))
    made = windows([text, text], 50, seed=0)
    assert made.inputs.shape == (50, WINDOW)
    for codes, label in zip(made.inputs, made.labels, strict=True):
        assert bytes([*codes, label]) in text + b"\n" + text
    np.testing.assert_array_equal(windows([text, text], 50, seed=0).inputs, made.inputs)
    assert (windows([text, text], 50, seed=1).inputs != made.inputs).any()
