"""ONNX, written by torch's exporter and compared with the program in onnxruntime."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from intrafusion.errors import ErrorCode, IntraFusionError, how_to_install
from intrafusion.program import torch_private
from intrafusion.program.emit_exported import to_exported
from intrafusion.program.emit_outputs import nested, output_names
from intrafusion.program.inputs import Samples
from intrafusion.program.messages import reason_line
from intrafusion.program.nodes import copy_graph
from intrafusion.program.precision import uses, widened
from intrafusion.program.program import Program

_LARGEST = 2**31 - 2**20
"""Bytes of weights that fit into one file, whose length protobuf counts in 31 bits."""

_IN_FLOAT32 = (
    "The network computes in bfloat16; the ONNX file takes, holds and gives float32, for "
    "onnxruntime has no convolutions in bfloat16."
)

_MISSING_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")
_MISSING_KERNEL = re.compile(
    r"Could not find an implementation for (?P<kernel>\w+)"
    r"|Type 'tensor\((?P<type>\w+)\)' of input parameter \(.*?\) of operator \((?P<operator>\w+)\)"
)


def write(program: Program, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a program as ONNX; see `intrafusion.program.emit.Writer`.

    Inputs have the names of the original's arguments, outputs those of `output_names`, weights
    their original ones; dimension 0 of the inputs is `batch`. Where onnxruntime is installed,
    the file gives the program's outputs in it at two batch sizes; else its form is checked.

    A program in bfloat16 is written in float32, with a warning and a note in the metadata:
    ONNX has convolutions in it from opset 22 on, and onnxruntime no kernel for them.
    """
    for package in ("onnx", "onnxscript"):
        _require(package)
    if uses(program, torch.bfloat16):
        program, metadata = widened(program), {**metadata, "precision": _IN_FLOAT32}
        warnings.warn(_IN_FLOAT32, stacklevel=2)
    size = sum(t.numel() * t.element_size() for t in program.tensors.values())
    if size > _LARGEST:
        raise _not_possible(f"The weights are {size:,} bytes; an ONNX file holds {_LARGEST:,}.")
    inputs = [node.name for node in program.graph.find_nodes(op="placeholder")]
    structure = nested(program.out_spec, range(program.out_spec.num_leaves))
    try:
        content = torch_private.to_onnx(
            to_exported(_laid_out(program), "onnx"),
            inputs,
            output_names(structure, inputs),
            metadata,
        )
    except IntraFusionError:
        raise
    except Exception as error:
        raise _not_possible(_why(error)) from error
    path.write_bytes(content)
    try:
        runtime = import_module("onnxruntime")
    except ModuleNotFoundError:
        import_module("onnx").checker.check_model(str(path), full_check=True)
        return
    _read_back(program, path, runtime)


def _laid_out(program: Program) -> Program:
    """The program with a copy of what every attention gives.

    torch's exporter makes views of that before it takes attention apart, and the parts give
    another layout of memory, of which there may be no such view.
    """
    attention = torch.ops.aten.scaled_dot_product_attention.default
    graph, _ = copy_graph(program.graph)
    for node in graph.find_nodes(op="call_function", target=attention):
        users = list(node.users)
        with graph.inserting_after(node):
            copy = graph.call_function(
                torch.ops.aten.clone.default, (node,), {"memory_format": torch.contiguous_format}
            )
        for user in users:
            user.replace_input_with(node, copy)
    return replace(program, graph=graph)


def _require(package: str) -> None:
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        raise IntraFusionError(
            ErrorCode.FORMAT_NOT_POSSIBLE,
            f"ONNX needs the package {package}, which is not installed.",
            f"Install it: {how_to_install('onnx')}.",
            format="onnx",
            package=package,
        ) from error


def _why(error: BaseException) -> str:
    """What torch's exporter stumbled over: the operator, where it names one."""
    for cause in _chain(error):
        operator = _MISSING_FUNCTION.search(str(cause))
        if operator is not None:
            return f"ONNX has nothing for the operator {operator[1]}."
    return f"torch cannot write the graph as ONNX: {reason_line(list(_chain(error))[-1])}."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _read_back(program: Program, path: Path, runtime: Any) -> None:
    """Check that onnxruntime loads the file and computes the program's outputs."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _not_possible(_refusal(error)) from error
    names = {*(i.name for i in session.get_inputs())}
    for size in (2, 5):
        inputs = Samples(program.example_inputs).batch(size)
        placeholders = program.graph.find_nodes(op="placeholder")
        fed = {
            node.name: x.numpy()
            for node, x in zip(placeholders, inputs, strict=True)
            if node.name in names
        }
        found = [torch.from_numpy(y) for y in session.run(None, fed)]
        expected = program.outputs(*inputs)
        if not all(_close(a, b) for a, b in zip(found, expected, strict=True)):
            raise IntraFusionError(
                ErrorCode.COMPRESSION_FAILED,
                f"The ONNX file gives other outputs in onnxruntime at a batch of {size}.",
                "Save in another format, and report this network.",
                format="onnx",
            )


def _refusal(error: BaseException) -> str:
    """Why onnxruntime does not load the file: the operator, where it names one."""
    missing = _MISSING_KERNEL.search(str(error))
    if missing is None:
        return f"onnxruntime refuses the file: {reason_line(error)}."
    if missing["kernel"]:
        return f"onnxruntime has no kernel for the operator {missing['kernel']} on these types."
    return f"The ONNX operator {missing['operator']} does not take {missing['type']}."


def _close(found: Tensor, expected: Tensor) -> bool:
    """Whether two implementations of the same computation agree: looser than two runs of one."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not expected.is_floating_point() or expected.numel() == 0:
        return torch.equal(found, expected)
    tolerance = max(1e-4, 100 * torch.finfo(expected.dtype).eps)
    finite = expected[expected.isfinite()].abs()
    scale = finite.max().item() if finite.numel() else 0.0
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def _not_possible(message: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.FORMAT_NOT_POSSIBLE,
        message,
        "Save as TorchScript, .pt2 or safetensors instead.",
        format="onnx",
    )
