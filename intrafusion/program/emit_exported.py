"""`.pt2`: the program exported anew by torch, for any batch size, under the old names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch.export import Dim, ExportedProgram

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.emit_module import blank, graph_module
from intrafusion.program.messages import reason_line
from intrafusion.program.program import Program
from intrafusion.program.read_back import check_outputs, differs

METADATA_FILE = "intrafusion.json"
"""The name of the extra file that holds the metadata inside the archive."""


def write(program: Program, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a program for `torch.export.load`; see `intrafusion.program.emit.Writer`."""
    exported = to_exported(program)
    with path.open("wb") as file:
        torch_private.save_exported(exported, file, {METADATA_FILE: json.dumps(dict(metadata))})
    _read_back(program, path)


def to_exported(program: Program, format: str = "exported") -> ExportedProgram:  # noqa: A002
    """The program as torch's ExportedProgram with one symbolic batch size.

    Raises `IntraFusionError` with `FORMAT_NOT_POSSIBLE`, for `format`, where torch cannot
    export it for every batch size.
    """
    module = graph_module(program)
    batch = Dim("batch")
    try:
        return torch_private.export(
            module,
            blank(program.example_inputs),
            tuple({0: batch} for _ in program.example_inputs),
        )
    except Exception as error:
        raise IntraFusionError(
            ErrorCode.FORMAT_NOT_POSSIBLE,
            f"torch cannot export the graph for every batch size: {reason_line(error)}.",
            "Save as TorchScript or safetensors instead.",
            format=format,
        ) from error


def _read_back(program: Program, path: Path) -> None:
    """Check that the file loads, has every name and gives the program's outputs."""
    with path.open("rb") as file:
        exported = torch_private.load_exported(file)
    names = {*program.tensors, *program.aliases}
    found = {*exported.state_dict, *exported.constants}
    if not names <= found:
        raise differs(f"lacks {sorted(names - found)[:3]}", kind=".pt2", output="exported")
    module = exported.module()
    check_outputs(program, module, kind=".pt2", output="exported")
