"""Reading the IDX files in which MNIST and its like come."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.data.labelled import DataSet, Labelled, as_images


def read_data_set(folder: Path, ending: str = "") -> DataSet:
    """The images and labels of MNIST or a set of its shape, in files of the names MNIST's have."""

    def part(name: str) -> Labelled:
        return Labelled(
            inputs=as_images(read_idx(folder / f"{name}-images-idx3-ubyte{ending}")),
            labels=read_idx(folder / f"{name}-labels-idx1-ubyte{ending}").astype(np.int64),
        )

    return DataSet.split(part("train"), part("t10k"))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, gzipped or not; `ValueError` for any other."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of unsigned bytes: it begins {content[:4]!r}")
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} announces shape {shape.tolist()} but holds {values.size} bytes")
    return values.reshape(tuple(int(size) for size in shape))
