"""The form in which every data set of the examples comes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
DOWNLOADS = ROOT / ".data"
SEED = 20261124
HELD_OUT = 5_000
CALIBRATION = 256


Inputs = NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Samples (n, …), float32 or for text int64, and their labels (n,) int64."""

    inputs: Inputs
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Labelled:
        return Labelled(self.inputs[rows], self.labels[rows])


@dataclass(frozen=True)
class DataSet:
    """What a network is trained on, what anything is chosen on, and what is read once at the end.

    Attributes:
        training: all that a network may learn from.
        held_out: 5,000 samples beside these, which no network was trained on.
        test: the test set.
    """

    training: Labelled
    held_out: Labelled
    test: Labelled

    @classmethod
    def split(cls, training: Labelled, test: Labelled) -> DataSet:
        """The data set whose published training and test sets are these."""
        end = len(training) - HELD_OUT
        return cls(training[:end], training[end:], test)

    @property
    def calibration(self) -> Inputs:
        """The 256 training samples, without labels, that every compression is given."""
        rows = np.random.default_rng(SEED).permutation(len(self.training))[:CALIBRATION]
        return self.training[np.sort(rows)].inputs


def as_images(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels (n, height, width) as images (n, 1, height, width) in [0, 1], scaled no further."""
    return pixels[:, None].astype(np.float32) / np.float32(255)
