"""What kind of model a file is, from its structure alone: no torch, and nothing is run."""

from __future__ import annotations

import pickletools
import zipfile
from io import BytesIO
from pathlib import Path
from typing import IO, Literal

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.containers import (
    ZIP_MAGIC,
    DamagedContainerError,
    safetensors_header,
    zip_entries,
)

Kind = Literal["torchscript", "exported", "safetensors", "state_dict"]

HOW_TO_CONVERT = (
    "Save the weights alone, as safetensors.torch.save_file(model.state_dict(), path), and name "
    "the architecture; or save the whole network with torch.jit.save(torch.jit.script(model), "
    "path)."
)

_MODELS = (
    "Upload TorchScript (torch.jit.save), a .pt2 from torch.export.save, or a state dict as "
    "safetensors or .pt."
)

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a state dict starts that torch wrote before it used zip files."""

_MAX_PICKLE_BYTES = 256 << 20
_MAX_DEFLATED_BYTES = 256 << 20
"""What deflated entries may grow to; torch deflates code, never tensors."""

_PLAIN_GLOBALS = {
    "torch", "torch._utils", "torch._tensor", "torch.nn.parameter", "torch.serialization",
    "torch.storage", "torch.torch_version", "collections", "_codecs",
}  # fmt: skip
_PLAIN_BUILTINS = {"bytearray", "complex", "set"}


def kind_of(path: Path) -> Kind:
    """The kind of model in a file: `torchscript`, `exported`, `safetensors` or `state_dict`.

    Raises `IntraFusionError` with `NOT_A_MODEL`, `CORRUPT_MODEL` (cut short, or with parts that
    do not fit together) or `UNSAFE_PICKLE` (a pickle of more than tensors).
    """
    with path.open("rb") as file:
        start = file.read(64)
    try:
        if start.startswith(ZIP_MAGIC):
            return _kind_of_zip(path)
        if start.startswith(_LEGACY_MAGIC):
            _check_legacy(path)
            return "state_dict"
        if safetensors_header(path) is not None:
            return "safetensors"
    except DamagedContainerError as error:
        raise IntraFusionError(
            ErrorCode.CORRUPT_MODEL,
            f"The file cannot be read: {error}.",
            "Upload it again, and compare its sha256 with the original's.",
        ) from error
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise _unsafe("The file is a Python pickle, which could run any code when it is loaded.")
    what = "is empty" if not start else f"starts with {start[:8]!r}"
    raise IntraFusionError(
        ErrorCode.NOT_A_MODEL, f"The file {what}, as no model does that can be read here.", _MODELS
    )


def _kind_of_zip(path: Path) -> Kind:
    entries = zip_entries(path)
    # torch puts everything under one folder, named after the file that was first written.
    names = {entry.filename.partition("/")[2]: entry for entry in entries}
    deflated = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if any("/data/" in e.filename or "/constants/" in e.filename for e in deflated):
        raise DamagedContainerError("its tensors are compressed, which torch never does")
    if sum(entry.file_size for entry in deflated) > _MAX_DEFLATED_BYTES:
        raise DamagedContainerError("its code unpacks to more than any code needs")
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if any(name.startswith("models/") or "exported_program" in name for name in names) or (
        "serialized_exported_program.json" in {entry.filename for entry in entries}
    ):
        return "exported"
    if "data.pkl" in names:
        _check_pickle(path, names["data.pkl"])
        return "state_dict"
    if any(entry.filename.endswith(".npy") for entry in entries):
        raise IntraFusionError(
            ErrorCode.NOT_A_MODEL, "The file is an .npz of arrays.", "Upload it as a dataset."
        )
    raise IntraFusionError(
        ErrorCode.NOT_A_MODEL,
        f"The file is a zip of {len(entries)} entries, and none is what torch writes.",
        _MODELS,
    )


def _check_pickle(path: Path, entry: zipfile.ZipInfo) -> None:
    if entry.file_size > _MAX_PICKLE_BYTES:
        raise DamagedContainerError("its description of tensors is too long")
    with zipfile.ZipFile(path) as archive:
        try:
            content = archive.read(entry)
        except zipfile.BadZipFile as error:
            raise DamagedContainerError(f"its data.pkl is damaged ({error})") from error
    _check_globals(BytesIO(content))


def _check_legacy(path: Path) -> None:
    # A magic number, a version, a description of the machine, and then the objects.
    with path.open("rb") as file:
        for _ in range(4):
            _check_globals(file)


def _check_globals(pickled: IO[bytes]) -> None:
    """Refuse a pickle that names classes and functions beyond those that tensors need."""
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                plain = module in _PLAIN_GLOBALS
                if module in ("builtins", "__builtin__"):
                    plain = name in _PLAIN_BUILTINS
                if not plain:
                    raise _unsafe(
                        f"The file is a pickle that needs {module}.{name}; loading such a file "
                        "runs code."
                    )
    except ValueError as error:
        raise DamagedContainerError(f"it holds a pickle that breaks off ({error})") from error


def _unsafe(message: str) -> IntraFusionError:
    return IntraFusionError(ErrorCode.UNSAFE_PICKLE, message, HOW_TO_CONVERT)
