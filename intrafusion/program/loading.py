"""The one way in: a file or a module becomes a program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from intrafusion.program import torch_private
from intrafusion.program.capture import capture
from intrafusion.program.inputs import examples_of
from intrafusion.program.program import Program
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
    """Read a network."""
    examples = examples_of(example_inputs, input_shapes, input_dtypes)
    if isinstance(source, torch.jit.ScriptModule):
        return capture(torch_private.copy_script(source), examples, "torchscript")
    if isinstance(source, nn.Module):
        return capture(source, examples, "module")
    return capture(open_torchscript(Path(source)), examples, "torchscript")
