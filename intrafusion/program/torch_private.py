"""Every use this project makes of torch's private parts, one small function each.

What breaks when torch changes breaks here; `tests/intrafusion/program/test_torch_private.py`
holds a test per function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree


def flatten(value: Any) -> tuple[list[Any], pytree.TreeSpec]:
    """The leaves of nested tuples, lists and dicts, and how they nest."""
    return pytree.tree_flatten(value)


def out_spec(program: ExportedProgram) -> pytree.TreeSpec:
    """How the flat outputs of an exported program nest."""
    spec: pytree.TreeSpec = program.call_spec.out_spec
    return spec


def load_script(path: Path) -> torch.jit.ScriptModule:
    """`torch.jit.load` onto the CPU; runs code from the file."""
    load: Callable[..., torch.jit.ScriptModule] = torch.jit.load
    return load(str(path), map_location="cpu")


def is_frozen(script: torch.jit.ScriptModule) -> bool:
    """Whether `torch.jit.freeze` turned the module's parameters into unnamed constants."""
    return not hasattr(script, "training")


def argument_names(script: torch.jit.ScriptModule) -> list[str]:
    """The names of `forward`'s arguments, without `self`."""
    schema = script._c._get_method("forward").schema
    return [argument.name for argument in schema.arguments[1:]]


class _Wrapper(nn.Module):
    """Python around a ScriptModule, so that `torch.export` takes it for its own kind."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, *inputs: Tensor) -> Any:
        return self.script(*inputs)


SCRIPT_PREFIX = "script."
"""What `export_script` puts before every parameter name."""


def export_script(script: torch.jit.ScriptModule, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Export a ScriptModule; every shape in the result is the literal of `inputs`.

    Names of parameters and buffers come out with `SCRIPT_PREFIX` before them.
    """
    for parameter in script.parameters():
        # Tensors that come out of TorchScript lack the mark by which export tells them
        # from constants.
        parameter._is_param = True
    with _unoptimised():
        return torch.export.export(_Wrapper(script), inputs, strict=False)


@contextmanager
def _unoptimised() -> Iterator[None]:
    """Run TorchScript as written: the profiling executor's fused kernels hide the ATen ops."""
    before = torch._C._get_graph_executor_optimize()
    torch._C._set_graph_executor_optimize(False)
    try:
        yield
    finally:
        torch._C._set_graph_executor_optimize(before)
