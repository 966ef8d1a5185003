"""Fashion-MNIST from the Debian package `dataset-fashion-mnist`.

The convention of every example and benchmark: images are float32 (n, 1, 28, 28), the pixel
value divided by 255 and nothing else; labels are int64 (n,).
"""

from __future__ import annotations

import gzip
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
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


@dataclass(frozen=True)
class Images:
    """Images (n, 1, 28, 28) float32 in [0, 1] and their labels (n,) int64."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Images:
        return Images(self.inputs[rows], self.labels[rows])


def fetch(folder: Path = ROOT / ".data") -> Path:
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


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of a gzipped IDX file of unsigned bytes; raises `ValueError` for any other."""
    with gzip.open(path) as stream:
        content = stream.read()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of unsigned bytes: it begins {content[:4]!r}")
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} announces shape {shape.tolist()} but holds {values.size} bytes")
    return values.reshape(tuple(int(size) for size in shape))


def fashion_mnist(split: str) -> Images:
    """The 60,000 images of `split` "train" or the 10,000 of "t10k"."""
    folder = fetch()
    pixels = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz")
    return Images(
        inputs=pixels[:, None].astype(np.float32) / np.float32(255),
        labels=labels.astype(np.int64),
    )
