"""What a network gives on inputs that anyone can make again: proof that two are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from intrafusion.program.program import Program

_VALUES = 256
"""How many values of an output are kept, evenly spread."""

_STEP = (math.sqrt(5) - 1) / 2
"""Multiples of the golden ratio, modulo 1, never bunch."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReferenceInput(_Part):
    shape: tuple[int, ...]
    dtype: str
    high: int = Field(description="Integers lie in 0 … high; of no meaning for other dtypes.")

    def tensor(self) -> Tensor:
        """Numbers by arithmetic alone, so that no random generator has to agree."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        spread = (torch.arange(1, math.prod(self.shape) + 1, dtype=torch.float64) * _STEP) % 1
        if not dtype.is_floating_point:
            spread = (spread * (self.high + 1)).floor()
        else:
            spread = spread * 4 - 2
        return spread.reshape(self.shape).to(dtype)


class ReferenceOutput(_Part):
    shape: tuple[int, ...]
    values: tuple[float, ...]


class Reference(_Part):
    """The outputs of a network, some values of each, on inputs made by arithmetic."""

    inputs: tuple[ReferenceInput, ...]
    outputs: tuple[ReferenceOutput, ...]

    def agrees(self, found: Sequence[Tensor], tolerance: float) -> bool:
        """Whether `found` are these outputs, up to `tolerance` of the largest value of each."""
        return len(found) == len(self.outputs) and all(
            _agrees(tensor, output, tolerance)
            for tensor, output in zip(found, self.outputs, strict=True)
        )


def reference_of(program: Program) -> Reference:
    """Run `program` on two samples; its example inputs say shapes, dtypes and ranges alone."""
    inputs = tuple(
        ReferenceInput(
            shape=tuple(x.shape),
            dtype=str(x.dtype).removeprefix("torch."),
            high=0 if x.dtype.is_floating_point or not x.numel() else max(0, int(x.max())),
        )
        for x in program.example_inputs
    )
    outputs = program.outputs(*(i.tensor().to(program.device) for i in inputs))
    return Reference(
        inputs=inputs,
        outputs=tuple(
            ReferenceOutput(shape=tuple(y.shape), values=tuple(_values(y))) for y in outputs
        ),
    )


def _values(output: Tensor) -> list[float]:
    flat = output.detach().reshape(-1).double().cpu()
    count = min(_VALUES, flat.numel())
    positions = torch.arange(count) * flat.numel() // max(1, count)
    # JSON has no infinity and no NaN.
    values: list[float] = flat[positions].nan_to_num().tolist()
    return values


def _agrees(found: Tensor, expected: ReferenceOutput, tolerance: float) -> bool:
    if tuple(found.shape) != expected.shape:
        return False
    a, b = torch.tensor(_values(found)), torch.tensor(expected.values)
    scale = b.abs().max().item() if b.numel() else 0.0
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * scale)
