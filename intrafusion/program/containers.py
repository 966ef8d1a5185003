"""The two containers that tensors come in, zip and safetensors, read without torch.

Only structure is read, never a value, so a server can look at a file before trusting it.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ZIP_MAGIC = b"PK\x03\x04"

_LOCAL_HEADER_BYTES = 30
_END_RECORD_BYTES = 22
_END_MAGIC = b"PK\x05\x06"
_MAX_HEADER_BYTES = 100_000_000
"""The limit that the safetensors format itself sets."""

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


class DamagedContainerError(Exception):
    """A zip or safetensors file whose parts do not fit together; the message says how."""


@dataclass(frozen=True)
class TensorHeader:
    """What a container says of a tensor: its dtype by the container's name, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def zip_entries(path: Path) -> list[zipfile.ZipInfo]:
    """The entries of a zip file, none twice, none overlapping, all inside the file.

    Raises `DamagedContainerError` otherwise.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries, comment = archive.infolist(), archive.comment
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise DamagedContainerError(
            f"it is a zip file that is cut short or damaged ({error})"
        ) from error
    names = [entry.filename for entry in entries]
    if not names:
        raise DamagedContainerError("it is an empty zip file")
    # A zip inside a cut zip would be found in its place.
    with path.open("rb") as file:
        file.seek(-_END_RECORD_BYTES - len(comment), os.SEEK_END)
        whole = file.read(len(_END_MAGIC)) == _END_MAGIC
    if not whole or min(entry.header_offset for entry in entries) != 0:
        raise DamagedContainerError("it is a zip file that is cut short")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DamagedContainerError(f"its entry {twice!r} is there twice")
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.flag_bits & 0x1:
            raise DamagedContainerError(f"its entry {entry.filename!r} is encrypted")
        if entry.header_offset < end:
            raise DamagedContainerError(f"its entry {entry.filename!r} overlaps another")
        if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
            raise DamagedContainerError(f"its entry {entry.filename!r} declares two sizes")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size
        if end > size:
            raise DamagedContainerError(f"its entry {entry.filename!r} ends beyond the file")
    return entries


def safetensors_header(path: Path) -> dict[str, TensorHeader] | None:
    """Names, dtypes and shapes in a safetensors file; None where the file is none.

    Raises `DamagedContainerError` where the header does not fit the bytes after it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
        if len(start) < 9 or start[8:] != b"{":
            return None
        (length,) = struct.unpack("<Q", start[:8])
        if length > _MAX_HEADER_BYTES:
            return None
        if 8 + length > size:
            raise DamagedContainerError("it is a safetensors file that ends inside its header")
        text = b"{" + file.read(length - 1)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedContainerError(f"its safetensors header is no JSON ({error})") from error
    spans: list[tuple[int, int, str]] = []
    tensors: dict[str, TensorHeader] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = _span(name, entry)
        spans.append((begin, end, name))
        tensors[name] = TensorHeader(entry["dtype"], tuple(entry["shape"]))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise DamagedContainerError(f"its tensor {name!r} leaves a gap or overlaps another")
        position = end
    if 8 + length + position != size:
        raise DamagedContainerError(
            f"it should have {8 + length + position} bytes by its header and has {size}"
        )
    return tensors


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor's bytes lie, checked against its dtype and shape."""
    try:
        bits, shape = DTYPE_BITS[entry["dtype"]], entry["shape"]
        begin, end = entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedContainerError(f"its tensor {name!r} is not described properly") from error
    if not whole or (end - begin) * 8 != math.prod(shape) * bits:
        raise DamagedContainerError(f"its tensor {name!r} has other bytes than its shape says")
    return begin, end
