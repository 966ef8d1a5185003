"""Whether a network runs, always gives the same, and is what was read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.inputs import Examples
from intrafusion.program.messages import is_about_shape, kind_of_error, place_of, reason_line

Forward = Callable[..., Any]


def reference_outputs(forward: Forward, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The network's own output tensors on `inputs`, flat; what is None is left out.

    Raises `IntraFusionError` with `INPUT_SHAPE_MISMATCH` where it refuses inputs of these
    shapes and dtypes, `MODEL_DOES_NOT_RUN` where it fails otherwise, and `CAPTURE_FAILED`
    where it returns something that is no tensor.
    """
    try:
        with torch.no_grad():
            returned = forward(*(x.clone() for x in inputs))
    except Exception as error:
        raise _does_not_run(error, inputs) from error
    leaves = [leaf for leaf in torch_private.flatten(returned)[0] if leaf is not None]
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise IntraFusionError(
                ErrorCode.CAPTURE_FAILED,
                f"The network returns a {type(leaf).__name__} ({leaf!r:.40}) among its outputs.",
                "Wrap it so that every output is a tensor.",
            )
    return tuple(leaves)


def _does_not_run(error: Exception, inputs: tuple[Tensor, ...]) -> IntraFusionError:
    described = ", ".join(f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}" for x in inputs)
    place = place_of(error)
    where = f" at {place}" if place else ""
    details = {"shapes": [list(x.shape) for x in inputs], "place": place}
    if is_about_shape(error):
        return IntraFusionError(
            ErrorCode.INPUT_SHAPE_MISMATCH,
            f"The network does not run on {described}: {reason_line(error)}{where}.",
            "State the shape and dtype of every input as the network expects them, batch first.",
            **details,
        )
    return IntraFusionError(
        ErrorCode.MODEL_DOES_NOT_RUN,
        f"The network raises {kind_of_error(error)} on {described}{where}: {reason_line(error)}.",
        "Check that the file runs on its own: load it in a fresh Python and call it.",
        **details,
    )


def outputs_at(
    forward: Forward, examples: Examples, sizes: Sequence[int]
) -> list[tuple[Tensor, ...]]:
    """The network's own outputs at each of the batch sizes `sizes`.

    Raises `IntraFusionError` with `BATCH_DEPENDENT` where it runs at some batch size and not at
    one of these; else as `reference_outputs`.
    """
    found: list[tuple[Tensor, ...]] = []
    for size in sizes:
        try:
            found.append(reference_outputs(forward, examples.batch(size)))
        except IntraFusionError as error:
            tried = sizes[: len(found)] or {1, examples.stated} - {size}
            works = next((s for s in tried if _runs(forward, examples, s)), None)
            if works is None:
                raise
            raise IntraFusionError(
                ErrorCode.BATCH_DEPENDENT,
                f"The network runs on a batch of {works}, and on one of {size} it does not. "
                + error.message,
                "Tracing probably built the batch size in, as it does for int(x.shape[0]): "
                "script the network instead, or write its code with x.flatten(1), x.new_zeros(…) "
                "and x.shape[0] itself.",
                runs=works,
                fails=size,
            ) from error
    return found


def _runs(forward: Forward, examples: Examples, size: int) -> bool:
    try:
        reference_outputs(forward, examples.batch(size))
    except IntraFusionError:
        return False
    return True


def check_deterministic(
    forward: Forward, inputs: tuple[Tensor, ...], first: tuple[Tensor, ...]
) -> None:
    """Check that a second run on `inputs` gives `first` again.

    Raises `IntraFusionError` with `MODEL_NOT_DETERMINISTIC` where it does not.
    """
    second = reference_outputs(forward, inputs)
    if not all_close(first, second):
        raise IntraFusionError(
            ErrorCode.MODEL_NOT_DETERMINISTIC,
            "Two runs of the network on the same inputs gave different outputs.",
            "Dropout was probably left on: call .eval() before tracing or saving. If the network "
            "draws random numbers itself, give them to it as an input.",
        )


def samples_that_mix(
    forward: Forward, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> str | None:
    """What to tell a user whose network does not treat every sample of a batch by itself.

    `outputs` are the network's on `inputs`. Compared with those of its last two samples alone;
    outputs without the batch in dimension 0 say nothing. None where all is well.
    """
    size = inputs[0].shape[0]
    alone = reference_outputs(forward, tuple(x[-2:] for x in inputs))
    both = [
        (a, b[-2:])
        for a, b in zip(alone, outputs, strict=True)
        if a.dim() and b.dim() and (a.shape[0], b.shape[0]) == (2, size)
    ]
    if all(_close(a, b) for a, b in both):
        return None
    return (
        f"What the network gives for a sample depends on the other samples of its batch: two "
        f"samples alone come out otherwise than among {size}. If batch norm was left in training "
        "mode, call .eval() before tracing or saving."
    )


def all_close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether outputs agree in shape, dtype and value, up to the rounding of their dtype."""
    return len(found) == len(expected) and all(
        _close(a, b) for a, b in zip(found, expected, strict=True)
    )


def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not (expected.is_floating_point() or expected.is_complex()) or expected.numel() == 0:
        return torch.equal(found, expected)
    finite = expected[expected.isfinite()].abs()
    scale = finite.max().item() if finite.numel() else 0.0
    # Reordered sums round differently: some dozens of units in the last place of the largest.
    tolerance = 100 * torch.finfo(expected.dtype).eps
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def check_finite(kind: str, named: Iterable[tuple[str, Tensor]]) -> None:
    """Raise `WEIGHTS_NOT_FINITE` for the first tensor with NaN or infinity."""
    for name, tensor in named:
        if tensor.is_floating_point() and not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise IntraFusionError(
                ErrorCode.WEIGHTS_NOT_FINITE,
                f"The {kind} {name} has {count} of {tensor.numel()} values that are NaN or "
                "infinite.",
                "Give a checkpoint from before the training diverged.",
                parameter=name,
            )
