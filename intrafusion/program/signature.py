"""Whether the inputs a user described are those that the network takes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import Parameter

import torch
from torch import nn

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private

_TENSORS = frozenset({"Tensor", "Optional[Tensor]"})
_SHOWN = 8


@dataclass(frozen=True)
class Argument:
    """One argument of a network's `forward`.

    Attributes:
        name: as its code calls it.
        optional: whether it may be left out.
        type: as TorchScript writes it; `Tensor` where the network does not say.
    """

    name: str
    optional: bool
    type: str = "Tensor"


def check_inputs(module: nn.Module, described: int) -> None:
    """Check that a module's `forward` takes that many tensors.

    Raises `IntraFusionError` with `INPUT_COUNT_MISMATCH` where it needs more or takes fewer, and
    with `CAPTURE_FAILED` where one of them would have to be something else than a tensor.
    """
    arguments = _arguments(module)
    if arguments is None:
        return
    for argument in arguments[:described]:
        if argument.type not in _TENSORS:
            raise IntraFusionError(
                ErrorCode.CAPTURE_FAILED,
                f"The network's input {argument.name} is a {argument.type}.",
                "Wrap it so that every input is a tensor.",
                input=argument.name,
            )
    required = sum(not argument.optional for argument in arguments)
    if required <= described <= len(arguments):
        return
    raise IntraFusionError(
        ErrorCode.INPUT_COUNT_MISMATCH,
        f"The network takes {_counted(required, len(arguments))}{_listed(arguments)}, and "
        f"{described} {'is' if described == 1 else 'are'} described.",
        "State a shape (and dtype) for each of them, in this order, batch first.",
        inputs=[argument.name for argument in arguments],
        required=required,
        described=described,
    )


def _arguments(module: nn.Module) -> list[Argument] | None:
    """The positional arguments of `forward`; None where it takes any number."""
    if isinstance(module, torch.jit.ScriptModule):
        return [
            Argument(name, optional, type_)
            for name, type_, optional in torch_private.arguments(module)
        ]
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind is Parameter.VAR_POSITIONAL for p in parameters):
        return None
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return [
        Argument(p.name, p.default is not Parameter.empty)
        for p in parameters
        if p.kind in positional
    ]


def _counted(required: int, most: int) -> str:
    if required == most:
        return "1 input" if most == 1 else f"{most} inputs"
    return f"{required} to {most} inputs"


def _listed(arguments: Sequence[Argument]) -> str:
    if not arguments:
        return ""
    names = [f"{a.name} (optional)" if a.optional else a.name for a in arguments]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f": {', '.join(names[:_SHOWN])}{more}"
