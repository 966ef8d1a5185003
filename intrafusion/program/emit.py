"""From program to file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Protocol

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.registry import Registry

if TYPE_CHECKING:
    from intrafusion.program.program import Program

FORMATS = Registry(
    kind="format",
    group="intrafusion.formats",
    built_in={
        "torchscript": "intrafusion.program.emit_torchscript:write",
        "safetensors": "intrafusion.program.emit_safetensors:write",
        "exported": "intrafusion.program.emit_exported:write",
        "onnx": "intrafusion.program.emit_onnx:write",
    },
    error=ErrorCode.FORMAT_NOT_POSSIBLE,
)

_ENDINGS = {
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
    ".safetensors": "safetensors",
    ".pt2": "exported",
    ".onnx": "onnx",
}


class Writer(Protocol):
    """Writes a program to a file and reads the file back to see that it says the same.

    Raises `IntraFusionError` with `FORMAT_NOT_POSSIBLE` where the format cannot hold the
    program, and `COMPRESSION_FAILED` where the file read back differs.
    """

    def __call__(self, program: Program, path: Path, metadata: Mapping[str, str]) -> None: ...


def save(
    program: Program,
    path: str | Path,
    format: str | None = None,  # noqa: A002
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a program to `path`; returns the path.

    Without `format`, one of `FORMATS`, the ending decides: .pt, .pth and .ts are TorchScript,
    .safetensors is safetensors, .pt2 is `exported`, .onnx is ONNX. `metadata` is stored in the
    file beside the tensors.

    The file appears whole or not at all, and replaces one of the same name. It is read back
    before that. Raises `IntraFusionError` with `FORMAT_NOT_POSSIBLE` or `COMPRESSION_FAILED`.
    """
    path = Path(path)
    write: Writer = FORMATS.get(format or _format_of(path))
    with NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
    ) as file:
        part = Path(file.name)
    try:
        write(program.to("cpu"), part, dict(metadata or {}))
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _format_of(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise IntraFusionError(
            ErrorCode.FORMAT_NOT_POSSIBLE,
            f"The ending of {path.name!r} says nothing about the format.",
            f"Use one of {', '.join(_ENDINGS)}, or name the format: {', '.join(FORMATS)}.",
            given=ending,
        )
    return _ENDINGS[ending]


def _umask() -> int:
    # Temporary files are private; the result gets the permissions any new file would.
    mask = os.umask(0)
    os.umask(mask)
    return mask
