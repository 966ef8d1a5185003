"""From a module that runs to a program that computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from intrafusion.arithmetic import exact
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.batch import BATCHES, generalise
from intrafusion.program.constants import fold_constants
from intrafusion.program.exported import Capture, capture_module, export_module, lower
from intrafusion.program.inputs import Examples, Samples
from intrafusion.program.messages import reason_line
from intrafusion.program.normalise import normalise
from intrafusion.program.program import Program
from intrafusion.program.scalars import fold_scalars
from intrafusion.program.signature import check_inputs
from intrafusion.program.torchscript import capture_script, parameters_by_use
from intrafusion.program.verify import (
    Forward,
    all_close,
    check_deterministic,
    check_finite,
    outputs_at,
    samples_that_mix,
)

Way = Callable[[], tuple[fx.Graph, Capture]]
"""Reads a network as a normalised graph, its tensors beside it."""

Reader = Callable[..., Capture]
"""Reads a network at the fixed shapes of a tuple of inputs."""

_OTHER_BATCH = 5
"""A batch size that no capture saw; 2 is compared as well."""

_TRAINING_NOTE = "The network was in training mode; it was read in evaluation mode."


def capture(
    module: nn.Module, examples: Examples, source: str, notes: tuple[str, ...] = ()
) -> Program:
    """Read a module (an `nn.Module` or a `ScriptModule`) in evaluation mode as a program.

    The module's own training flags are as before afterwards. Of the ways to read it the
    first is taken whose program gives the module's own outputs at two batch sizes.

    Raises `IntraFusionError` with `INPUT_COUNT_MISMATCH`, `WEIGHTS_NOT_FINITE`,
    `INPUT_SHAPE_MISMATCH`, `MODEL_DOES_NOT_RUN`, `MODEL_NOT_DETERMINISTIC`, `BATCH_DEPENDENT` or
    `CAPTURE_FAILED`.
    """
    check_inputs(module, len(examples.batch(1)))
    check_finite("parameter", module.named_parameters())
    examples = _beside(module, examples)
    with _evaluation_mode(module) as was_training, exact():
        if was_training:
            notes = (*notes, _TRAINING_NOTE)
        return _first_that_agrees(module, _ways(module, examples), examples, source, notes)


def _beside(module: nn.Module, examples: Examples) -> Examples:
    """The example inputs on the module's device."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    if tensor is None or tensor.device.type == "cpu":
        return examples
    return Samples(tuple(x.to(tensor.device) for x in examples.batch(_OTHER_BATCH)))


def capture_exported(exported: ExportedProgram, examples: Examples) -> Program:
    """Read an exported program with a symbolic batch size as a program.

    Raises as `capture` does.
    """
    check_finite("parameter", exported.named_parameters())
    ways = (partial(_lowered, exported, quick=quick) for quick in (True, False))
    with exact():
        return _first_that_agrees(exported.module(), ways, examples, "exported", ())


def _first_that_agrees(
    forward: Forward,
    ways: Iterator[Way],
    examples: Examples,
    source: str,
    notes: tuple[str, ...],
) -> Program:
    """The first program among `ways` that gives the outputs of `forward`."""
    inputs, others = examples.batch(BATCHES[0]), examples.batch(_OTHER_BATCH)
    expected, expected_others = outputs_at(forward, examples, (BATCHES[0], _OTHER_BATCH))
    check_deterministic(forward, inputs, expected)
    mixing = samples_that_mix(forward, others, expected_others)
    if mixing is not None:
        notes = (*notes, mixing)
    code = ErrorCode.CAPTURE_FAILED
    hint = (
        "Rewrite what the message names, or give the network in another form: "
        "TorchScript, nn.Module or a .pt2 from torch.export."
    )
    failures = []
    for read in ways:
        try:
            graph, captured = read()
        except IntraFusionError as error:
            code = error.code if error.code is ErrorCode.BATCH_DEPENDENT else code
            failures.append(error.message)
            hint = error.hint
            continue
        except Exception as error:  # noqa: BLE001 - export of foreign code raises anything
            failures.append(f"{type(error).__name__}: {reason_line(error)}.")
            continue
        program = fold_constants(_program(graph, captured, inputs, source, notes))
        failure = _difference(program, (inputs, expected), (others, expected_others))
        if failure is None:
            # Frozen TorchScript has parameters that only show now.
            check_finite("constant", ((n, program.tensors[n]) for n in program.trainable))
            return program
        failures.append(failure)
    raise IntraFusionError(
        code,
        "The network could not be read as a graph. " + " ".join(dict.fromkeys(failures)),
        hint,
        attempts=failures,
    )


def _ways(module: nn.Module, examples: Examples) -> Iterator[Way]:
    if isinstance(module, torch.jit.ScriptModule):
        read: Reader = partial(capture_script, module)
    else:
        yield partial(_symbolic, module, examples)
        read = partial(_read_module, module)
    yield partial(_joined, read, examples)
    yield partial(_joined, partial(read, quick=False), examples)


def _symbolic(module: nn.Module, examples: Examples) -> tuple[fx.Graph, Capture]:
    return _lowered(export_module(module, examples.batch(BATCHES[0])))


def _lowered(exported: ExportedProgram, quick: bool = True) -> tuple[fx.Graph, Capture]:
    captured = lower(exported, quick=quick)
    return normalise(captured.graph), captured


def _read_module(module: nn.Module, inputs: tuple[Tensor, ...], quick: bool = True) -> Capture:
    try:
        return capture_module(module, inputs, quick)
    except RuntimeError as error:
        if not torch_private.is_about_data(error):
            raise
    # Python that chooses by what a tensor holds hides the other way; TorchScript has both.
    script = torch_private.copy_script(torch.jit.script(module))
    return capture_script(script, inputs, quick)


def _joined(read: Reader, examples: Examples) -> tuple[fx.Graph, Capture]:
    captured = [fold_scalars(read(examples.batch(size))) for size in BATCHES]
    # Normalised first: `flatten` has no size in it that could differ.
    two, three = (replace(c, graph=normalise(c.graph)) for c in captured)
    return generalise(two, three), two


def _program(
    graph: fx.Graph,
    captured: Capture,
    inputs: tuple[Tensor, ...],
    source: str,
    notes: tuple[str, ...],
) -> Program:
    return Program(
        graph=graph,
        # Copied, so that later training of the source does not reach the program.
        tensors={name: tensor.clone() for name, tensor in captured.tensors.items()},
        trainable=captured.trainable or parameters_by_use(graph),
        example_inputs=inputs,
        out_spec=captured.out_spec,
        source=source,
        notes=(*notes, *captured.notes),
        aliases=captured.aliases,
    )


def _difference(
    program: Program, *runs: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
) -> str | None:
    """What is wrong with a program that should give these outputs on these inputs."""
    for inputs, expected in runs:
        batch = inputs[0].shape[0]
        try:
            found = program.outputs(*inputs)
        except Exception as error:  # noqa: BLE001 - a wrong graph fails in any way
            return f"Read as a graph, it fails at a batch of {batch}: {reason_line(error)}."
        if not all_close(found, expected):
            return f"Read as a graph, its outputs at a batch of {batch} are others."
    return None


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[bool]:
    """The module in evaluation mode; yields whether any part of it was not."""
    if isinstance(module, torch.jit.ScriptModule) and torch_private.is_frozen(module):
        yield False
        return
    flags = [(part, part.training) for part in module.modules() if hasattr(part, "training")]
    was_training = any(flag for _, flag in flags)
    if was_training:
        module.eval()
    try:
        yield was_training
    finally:
        if was_training:
            for part, flag in flags:
                part.training = flag
