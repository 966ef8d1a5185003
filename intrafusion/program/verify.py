"""Whether a network runs, always gives the same, and is what was read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.messages import is_about_shape, reason_line

Forward = Callable[..., Any]


def reference_outputs(forward: Forward, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The network's own output tensors on `inputs`, flat; what is None is left out.

    Raises `IntraFusionError` with `INPUT_SHAPE_MISMATCH` where it refuses inputs of these
    shapes and dtypes, `MODEL_DOES_NOT_RUN` where it fails otherwise, and `CAPTURE_FAILED`
    where it returns something that is no tensor.
    """
    described = [f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}" for x in inputs]
    try:
        with torch.no_grad():
            returned = forward(*(x.clone() for x in inputs))
    except Exception as error:
        if is_about_shape(error):
            raise IntraFusionError(
                ErrorCode.INPUT_SHAPE_MISMATCH,
                f"The network does not run on {', '.join(described)}: {reason_line(error)}.",
                "State the shape and dtype of every input as the network expects them, "
                "batch first.",
                shapes=[list(x.shape) for x in inputs],
            ) from error
        raise IntraFusionError(
            ErrorCode.MODEL_DOES_NOT_RUN,
            f"The network raises {type(error).__name__} on {', '.join(described)}: "
            f"{reason_line(error)}.",
            "Check that the file runs on its own: load it in a fresh Python and call it.",
            shapes=[list(x.shape) for x in inputs],
        ) from error
    leaves = [leaf for leaf in torch_private.flatten(returned)[0] if leaf is not None]
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise IntraFusionError(
                ErrorCode.CAPTURE_FAILED,
                f"The network returns a {type(leaf).__name__} ({leaf!r:.40}) among its outputs.",
                "Wrap it so that every output is a tensor.",
            )
    return tuple(leaves)


def check_deterministic(forward: Forward, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The outputs on `inputs`; raises `MODEL_NOT_DETERMINISTIC` where a second run differs."""
    first = reference_outputs(forward, inputs)
    second = reference_outputs(forward, inputs)
    if not all_close(first, second):
        raise IntraFusionError(
            ErrorCode.MODEL_NOT_DETERMINISTIC,
            "Two runs of the network on the same inputs gave different outputs.",
            "Dropout was probably left on: call .eval() before tracing or saving.",
        )
    return first


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
