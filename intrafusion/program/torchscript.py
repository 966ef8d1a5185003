"""TorchScript modules, scripted or traced, as graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import script_graph, torch_private
from intrafusion.program.branch import Branch
from intrafusion.program.exported import Capture, lower
from intrafusion.program.messages import branch_at, reason_line, unknown_operation
from intrafusion.program.script_choices import Choices

aten = torch.ops.aten

_FROZEN_NOTE = (
    "The TorchScript was frozen (torch.jit.freeze), which loses the names of its parameters; "
    "they are numbered instead."
)

_PARAMETER_ARGUMENTS: dict[Any, tuple[int, ...]] = {
    aten.convolution.default: (1, 2),
    aten.linear.default: (1, 2),
    aten.batch_norm.default: (1, 2),
    aten.layer_norm.default: (2, 3),
    aten.group_norm.default: (2, 3),
    aten.prelu.default: (1,),
    aten.embedding.default: (0,),
    aten.lstm.input: (2,),
    aten.gru.input: (2,),
    aten.rnn_tanh.input: (2,),
    aten.rnn_relu.input: (2,),
}


def open_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Load a TorchScript file onto the CPU; runs code from the file.

    Raises `IntraFusionError` with `CORRUPT_MODEL` where torch cannot read it, and
    `CAPTURE_FAILED` where it uses an operation of another package.
    """
    try:
        script: torch.jit.ScriptModule = torch_private.load_script(path)
    except (RuntimeError, ValueError, OSError) as error:
        if (unknown := unknown_operation(error)) is not None:
            raise IntraFusionError(
                ErrorCode.CAPTURE_FAILED,
                f"{path.name} uses the operation {unknown}, which torch does not have.",
                "Import the package that defines it before, or save the network without it: a "
                "detector, say, without its non-maximum suppression.",
                operation=unknown,
            ) from error
        raise IntraFusionError(
            ErrorCode.CORRUPT_MODEL,
            f"{path.name} cannot be read as TorchScript: {reason_line(error)}.",
            "Save it again with torch.jit.save, by a torch no newer than the one here "
            f"({torch.__version__}).",
        ) from error
    return script


def capture_script(
    script: torch.jit.ScriptModule, inputs: tuple[Tensor, ...], quick: bool = True
) -> Capture:
    """The graph of a ScriptModule at the fixed shapes of `inputs`.

    Raises `IntraFusionError` with `CAPTURE_FAILED` where what the network does depends on what
    a tensor holds, and what `torch.export` raises.
    """
    notes: tuple[str, ...] = ()
    try:
        exported = torch_private.export_script(script, inputs)
    except RuntimeError as error:
        if not torch_private.is_about_data(error):
            raise
        exported, notes = _with_choices(script, inputs)
    if torch_private.is_frozen(script):
        notes = (_FROZEN_NOTE, *notes)
    capture = lower(
        exported,
        prefix=torch_private.SCRIPT_PREFIX,
        input_names=[name for name, _, _ in torch_private.arguments(script)],
        quick=quick,
    )
    return replace(capture, notes=(*capture.notes, *notes))


def _with_choices(
    script: torch.jit.ScriptModule, inputs: tuple[Tensor, ...]
) -> tuple[ExportedProgram, tuple[str, ...]]:
    """The export of a network that chooses by what its tensors hold, and what to say of it."""
    choices = Choices(script)
    try:
        exported = torch_private.export(choices, inputs)
    except Exception as error:
        raise _branches(script, reason_line(error)) from error
    checks = _places(choices.met.unchecked)
    chosen = [place for place in _places(choices.met.chosen) if place not in checks]
    notes = []
    if chosen:
        at = " and at ".join(chosen)
        notes.append(
            f"What the network does depends on what its tensors hold, at {at}. "
            "Both ways are kept, and what they read and make stays as it is."
        )
    if checks:
        at = " and at ".join(checks)
        notes.append(
            "The network raises an error where its tensors hold what they should not, at "
            f"{at}. The program does not check this."
        )
    return exported, tuple(notes)


def _places(source_ranges: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, map(branch_at, source_ranges))))


def _branches(script: torch.jit.ScriptModule, reason: str) -> IntraFusionError:
    places = _places(script_graph.data_dependent_branches(script))
    return IntraFusionError(
        ErrorCode.CAPTURE_FAILED,
        "What the network does depends on what its tensors hold"
        + (f", at {' and at '.join(places)}" if places else "")
        + f", in a way that cannot be kept: {reason}.",
        "Write both ways as one computation, such as torch.where(condition, a, b), or trace the "
        "network with the way that it takes in use.",
        branches=places,
    )


def parameters_by_use(graph: fx.Graph) -> frozenset[str]:
    """The attributes that a normalised graph uses as weights and biases.

    Frozen TorchScript does not tell parameters from other constants.
    """
    return frozenset(str(node.target) for node in _parameters(graph) if node.op == "get_attr")


def _parameters(graph: fx.Graph) -> Iterator[fx.Node]:
    """The values that a graph uses as weights and biases, within branches too."""
    for node in graph.nodes:
        for position in _PARAMETER_ARGUMENTS.get(node.target, ()):
            argument = node.args[position] if position < len(node.args) else None
            for used in argument if isinstance(argument, list | tuple) else [argument]:
                if isinstance(used, fx.Node):
                    yield used
        for way in node.target.ways if isinstance(node.target, Branch) else ():
            places = list(way.find_nodes(op="placeholder"))
            for used in _parameters(way):
                if used in places:
                    yield node.args[1 + places.index(used)]
