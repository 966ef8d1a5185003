"""Example inputs: from the shapes a user states, or from the samples a user gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from intrafusion.errors import ErrorCode, IntraFusionError

_SEED = 0


@dataclass(frozen=True)
class Samples:
    """Given samples, one tensor per input, each (samples, …)."""

    tensors: tuple[Tensor, ...]

    @property
    def stated(self) -> int:
        """The batch size the user spoke of."""
        return self.tensors[0].shape[0]

    def batch(self, size: int) -> tuple[Tensor, ...]:
        """The first `size` samples, from the start again where there are fewer."""
        return tuple(t[torch.arange(size) % t.shape[0]] for t in self.tensors)


@dataclass(frozen=True)
class Shapes:
    """Stated shapes without the batch, dtypes, and the batch size they were `stated` with."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    stated: int = 1

    def batch(self, size: int) -> tuple[Tensor, ...]:
        """`size` samples: standard normal where the dtype is floating point, else zeros.

        The same numbers each time, and the first samples of a larger batch are those of a
        smaller one.
        """
        generator = torch.Generator().manual_seed(_SEED)
        streams = [
            torch.stack([_sample(shape, dtype, generator) for _ in range(size)])
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        ]
        return tuple(streams)


def _sample(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.zeros(shape, dtype=dtype)


Examples = Samples | Shapes
"""What there is to run a network on: `batch(size)` makes inputs."""


def examples_of(
    example_inputs: Tensor | Sequence[Tensor] | None,
    input_shapes: Sequence[Sequence[int]] | None,
    input_dtypes: Sequence[str] | None,
) -> Examples:
    """What to run the network on, from what the user gave.

    `example_inputs` are samples, batch first. Without them `input_shapes` states each input's
    shape, with any batch size first, and `input_dtypes` the dtypes (`float32` unless stated).

    Raises `IntraFusionError` with `INPUT_SHAPE_MISSING` where neither is given, and with
    `INPUT_SHAPE_MISMATCH` where what is given cannot be a batch of inputs.
    """
    if example_inputs is not None:
        tensors = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
        return Samples(tuple(_checked(t, i) for i, t in enumerate(tensors)))
    if not input_shapes:
        raise IntraFusionError(
            ErrorCode.INPUT_SHAPE_MISSING,
            "The file does not say what shape the network's inputs have.",
            "State the shape of each input, batch first, such as [[1, 3, 224, 224]].",
        )
    shapes = [tuple(int(size) for size in shape) for shape in input_shapes]
    for shape in shapes:
        if not shape or min(shape) < 1:
            raise IntraFusionError(
                ErrorCode.INPUT_SHAPE_MISMATCH,
                f"{list(shape)} is no shape of an input.",
                "State sizes of at least 1, with the batch size (any) first.",
                shape=list(shape),
            )
    names = list(input_dtypes) if input_dtypes else ["float32"] * len(shapes)
    if len(names) != len(shapes):
        raise IntraFusionError(
            ErrorCode.INPUT_SHAPE_MISMATCH,
            f"There are {len(shapes)} input shapes and {len(names)} dtypes.",
            "State one dtype per input, or none for float32 throughout.",
        )
    return Shapes(
        shapes=tuple(shape[1:] for shape in shapes),
        dtypes=tuple(_dtype(name) for name in names),
        stated=shapes[0][0],
    )


def _dtype(name: str) -> torch.dtype:
    dtype: Any = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise IntraFusionError(
            ErrorCode.INPUT_SHAPE_MISMATCH,
            f"{name!r} is no dtype of an input.",
            "Use a torch name such as float32, float64, float16 or int64.",
            dtype=name,
        )
    return dtype


def _checked(tensor: object, position: int) -> Tensor:
    if isinstance(tensor, Tensor) and tensor.dim() > 0 and tensor.shape[0] > 0:
        return tensor.detach()
    found = f"of shape {list(tensor.shape)}" if isinstance(tensor, Tensor) else f"{tensor!r:.60}"
    raise IntraFusionError(
        ErrorCode.INPUT_SHAPE_MISMATCH,
        f"Example input {position} is {found}.",
        "Give a tensor per input with at least one sample, the batch in dimension 0.",
    )
