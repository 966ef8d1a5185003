"""English text: the sources of Python's documentation, from the Debian package `python3.11-doc`.

125,000 and 5,000 windows int64 (n, 64), the ASCII code of each character; the label is the code of
the character that follows. Windows to train on, held-out ones and those of the test set come from
different files.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.data.labelled import DOWNLOADS, HELD_OUT, SEED, DataSet, Labelled

PACKAGE = "python3.11-doc"
SOURCES = Path("usr/share/doc/python3.11/html/_sources")
FOLDERS = ("faq", "howto", "library", "reference", "tutorial")
WINDOW = 64
TRAINING, TEST = 120_000, 5_000
PARTS = 10
"""One file in so many is held out, and one is of the test set."""


def fetch(folder: Path = DOWNLOADS) -> Path:
    """The folder with the sources, downloaded at first use as Fashion-MNIST is."""
    installed = Path("/") / SOURCES
    if installed.is_dir():
        return installed
    unpacked = folder / SOURCES
    if not unpacked.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as download:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=download, check=True)
            (package,) = Path(download).glob("*.deb")
            subprocess.run(["dpkg", "-x", package, folder], check=True)
    return unpacked


def windows(texts: Sequence[bytes], count: int, seed: int) -> Labelled:
    """`count` windows from anywhere in `texts`, and what follows each."""
    random = np.random.default_rng(seed)
    codes = np.frombuffer(b"\n".join(texts), np.uint8)
    starts = random.integers(len(codes) - WINDOW, size=count)
    found: NDArray[np.int64] = codes[starts[:, None] + np.arange(WINDOW + 1)].astype(np.int64)
    return Labelled(found[:, :WINDOW], found[:, WINDOW])


def read() -> DataSet:
    """Windows from all files of the manuals; the same in every run."""
    root = fetch()
    files = sorted(path for name in FOLDERS for path in (root / name).rglob("*.rst.txt"))
    texts = [path.read_text("utf-8").encode("ascii", "replace") for path in files]
    test, held_out = texts[::PARTS], texts[1::PARTS]
    training = [text for number, text in enumerate(texts) if number % PARTS > 1]
    return DataSet(
        windows(training, TRAINING, SEED),
        windows(held_out, HELD_OUT, SEED + 1),
        windows(test, TEST, SEED + 2),
    )
