"""The one way in: a file or a module becomes a program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.architectures import build
from intrafusion.program.capture import capture, capture_exported
from intrafusion.program.exported import example_shapes, open_exported
from intrafusion.program.inputs import examples_of
from intrafusion.program.program import Program
from intrafusion.program.sniff import kind_of
from intrafusion.program.state_dict import fill, read_state_dict
from intrafusion.program.torchscript import open_torchscript
from intrafusion.spec import Architecture


def load(
    source: str | Path | nn.Module,
    *,
    example_inputs: Tensor | Sequence[Tensor] | None = None,
    input_shapes: Sequence[Sequence[int]] | None = None,
    input_dtypes: Sequence[str] | None = None,
    architecture: Architecture | None = None,
) -> Program:
    """Read a trained network, in evaluation mode, as a program.

    Args:
        source: a TorchScript file, a .pt2 file from `torch.export.save`, a state dict
            (safetensors or .pt), an `nn.Module` or a `ScriptModule`. Modules are left as they
            are, and later training does not reach the program.
        example_inputs: a tensor per input, (samples, …). Its values are used where the network
            is run for comparison, so real samples are best.
        input_shapes: without `example_inputs`, the shape of each input, any batch size first.
            A .pt2 file knows its own.
        input_dtypes: with `input_shapes`, the dtype of each input; `float32` unless stated.
        architecture: for a state dict, and only there, the code it belongs to.

    Loading a TorchScript or .pt2 file may run code that the file brings.

    Raises `IntraFusionError`: `NOT_FOUND`, `NOT_A_MODEL`, `CORRUPT_MODEL`, `UNSAFE_PICKLE` for
    the file; `ARCHITECTURE_MISSING`, `UNKNOWN_ARCHITECTURE`, `ARCHITECTURE_ARGUMENTS`,
    `STATE_DICT_MISMATCH` for a state dict; `INPUT_SHAPE_MISSING`, `INPUT_SHAPE_MISMATCH`,
    `INPUT_COUNT_MISMATCH` for the inputs; `WEIGHTS_NOT_FINITE`, `MODEL_DOES_NOT_RUN`,
    `MODEL_NOT_DETERMINISTIC`, `BATCH_DEPENDENT`, `CAPTURE_FAILED` for the network.
    """
    if isinstance(source, nn.Module):
        _no_architecture(architecture, "A module")
        examples = examples_of(example_inputs, input_shapes, input_dtypes)
        if isinstance(source, torch.jit.ScriptModule):
            return capture(torch_private.copy_script(source), examples, "torchscript")
        return capture(source, examples, "module")

    path = Path(source)
    if not path.is_file():
        raise IntraFusionError(
            ErrorCode.NOT_FOUND, f"There is no file {str(path)!r}.", "Check the path."
        )
    kind = kind_of(path)
    if kind == "exported":
        _no_architecture(architecture, "A .pt2 file")
        exported = open_exported(path)
        if example_inputs is None and input_shapes is None:
            input_shapes, input_dtypes = example_shapes(exported)
        examples = examples_of(example_inputs, input_shapes, input_dtypes)
        return capture_exported(exported, examples)
    examples = examples_of(example_inputs, input_shapes, input_dtypes)
    if kind == "torchscript":
        _no_architecture(architecture, "A TorchScript file")
        return capture(open_torchscript(path), examples, "torchscript")
    if architecture is None:
        raise IntraFusionError(
            ErrorCode.ARCHITECTURE_MISSING,
            f"{path.name} is a state dict: weights without the network's code.",
            "Name the architecture they belong to and its arguments, such as "
            '{"name": "torchvision/resnet18", "arguments": {"num_classes": 10}}; or give '
            "TorchScript.",
        )
    state = read_state_dict(path, kind)
    module = build(architecture)
    return capture(module.eval(), examples, "state_dict", notes=fill(module, state))


def _no_architecture(architecture: Architecture | None, what: str) -> None:
    if architecture is not None:
        raise IntraFusionError(
            ErrorCode.ARCHITECTURE_ARGUMENTS,
            f"{what} brings its own code; the architecture {architecture.name!r} means nothing.",
            "Leave the architecture out.",
        )
