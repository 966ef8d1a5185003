"""Fashion-MNIST from the Debian package `dataset-fashion-mnist`.

60,000 and 10,000 images float32 (n, 1, 28, 28), the pixel value divided by 255 and nothing else.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from examples.data.idx import read_data_set
from examples.data.labelled import DOWNLOADS, DataSet

PACKAGE = "dataset-fashion-mnist"
UNPACKED = Path("usr/share/datasets/fashion-mnist")
LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def fetch(folder: Path = DOWNLOADS) -> Path:
    """The folder with the four IDX files, downloaded at first use.

    Looks at the installed package, then at `folder`, then downloads the package with
    `apt-get download` and unpacks it into `folder`; none of it needs root.
    """
    installed = Path("/") / UNPACKED
    if installed.is_dir():
        return installed
    unpacked = folder / UNPACKED
    if not unpacked.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as download:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=download, check=True)
            (package,) = Path(download).glob("*.deb")
            subprocess.run(["dpkg", "-x", package, folder], check=True)
    return unpacked


def read() -> DataSet:
    """All of Fashion-MNIST."""
    return read_data_set(fetch(), ".gz")
