"""The forms in which a network may come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from intrafusion.program.messages import reason_line

Inputs = tuple[Tensor, ...]


class NoSuchFormError(Exception):
    """torch itself cannot make this form of the network."""


def _traced(network: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.jit.save(_trace(network, inputs), path)


def _scripted(network: nn.Module, inputs: Inputs, path: Path) -> None:
    script = torch.jit.script(network)
    # Some of what torch scripts does not run, parametrised weights for one.
    script(*inputs)
    torch.jit.save(script, path)


def _frozen(network: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.jit.save(torch.jit.freeze(_trace(network, inputs)), path)


def _exported(network: nn.Module, inputs: Inputs, path: Path) -> None:
    batch = torch.export.Dim("batch")
    exported = torch.export.export(
        network, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False
    )
    torch.export.save(exported, path)


def _trace(network: nn.Module, inputs: Inputs) -> torch.jit.ScriptModule:
    # Not strict: outputs may be dicts.
    trace: Callable[..., torch.jit.ScriptModule] = torch.jit.trace
    return trace(network, inputs, check_trace=False, strict=False)


_WRITERS: dict[str, tuple[str, Callable[[nn.Module, Inputs, Path], None]]] = {
    "traced": ("traced.pt", _traced),
    "scripted": ("scripted.pt", _scripted),
    "frozen": ("frozen.pt", _frozen),
    "exported": ("exported.pt2", _exported),
}

FORMS = ("module", *_WRITERS)


def as_form(network: nn.Module, form: str, inputs: Inputs, folder: Path) -> nn.Module | Path:
    """`network` itself, or a file of it in `folder`, as `intrafusion.load` takes them.

    Raises `NoSuchFormError` with torch's reason where torch cannot script, trace or export it.
    """
    if form == "module":
        return network
    name, write = _WRITERS[form]
    path = folder / name
    try:
        with torch.no_grad():
            write(network, inputs, path)
    except Exception as error:
        raise NoSuchFormError(f"{type(error).__name__}: {reason_line(error)}") from error
    return path
