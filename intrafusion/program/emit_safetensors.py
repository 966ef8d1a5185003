"""Safetensors: the parameters and buffers, for those who have the network's code."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.nodes import arguments, name_of, tensor_name
from intrafusion.program.program import Program
from intrafusion.program.reference import reference_of

_GROUPED = {"convolution": (1, 8), "group_norm": (2, 1)}
"""Layers in groups: the positions of their weight and of the number of groups."""


def write(program: Program, path: Path, metadata: Mapping[str, str]) -> None:
    """Write every tensor under its name; see `intrafusion.program.emit.Writer`.

    The file's metadata is `format: pt`, `intrafusion: <version>` and `metadata`; of a compressed
    program also what `intrafusion.resize_` goes by, each as JSON: `plan`
    (`intrafusion.program.plan.Plan`), `groups` (a number for every weight of a grouped layer)
    and `reference` (`intrafusion.program.reference.Reference`). The format holds no tied
    tensors: each name gets a copy.
    """
    from intrafusion import __version__

    tensors = {name: tensor.contiguous() for name, tensor in program.tensors.items()}
    for alias, name in program.aliases.items():
        tensors[alias] = tensors[name].clone()
    own = {"format": "pt", "intrafusion": __version__, **_history(program)}
    save_file(tensors, path, metadata={**own, **metadata})
    _order_metadata(path)
    found = load_file(path)
    if found.keys() != tensors.keys() or not all(
        _same_bits(found[name], tensor) for name, tensor in tensors.items()
    ):
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            "The safetensors file, read back, differs from what was written.",
            "Check the disk; if it is sound, please report this as a defect of intrafusion.",
            format="safetensors",
        )


def _history(program: Program) -> dict[str, str]:
    if program.plan is None:
        return {}
    return {
        "plan": program.plan.with_aliases(program.aliases).model_dump_json(),
        "groups": json.dumps(_groups(program)),
        "reference": reference_of(program).model_dump_json(),
    }


def _groups(program: Program) -> dict[str, int]:
    """How many groups every convolution and group norm has, by its weight's name."""
    groups = {}
    for node in program.graph.nodes:
        if node.op != "call_function" or name_of(node) not in _GROUPED:
            continue
        weight, count = _GROUPED[name_of(node)]
        name = tensor_name(node, weight)
        if name is not None:
            groups[name] = int(arguments(node)[count])
    return groups


def _order_metadata(path: Path) -> None:
    """Put the metadata in order: the library writes it in a random one, and the same program
    should be the same bytes.
    """
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
    )
