"""Samples some at a time, as many as memory bears, and which of them are held out of a fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from intrafusion.channels.walk import Value, Walk
from intrafusion.program import Program

BATCH_BYTES = 1 << 30
"""Activations held at a time, unless said otherwise."""


def samples_at_a_time(program: Program, walk: Walk, memory: int | None = None) -> int:
    """How many samples a forward and backward pass may hold the activations of, at least 1.

    Args:
        program: that is run.
        walk: over it, with its example inputs.
        memory: bytes of activations; `BATCH_BYTES` unless given.
    """
    held = sum(
        math.prod(value.shape) * value.dtype.itemsize
        for node, value in walk.values.items()
        if node.op == "call_function" and isinstance(value, Value) and value.data is None
    )
    samples = max(1, len(program.example_inputs[0]))
    return max(1, (BATCH_BYTES if memory is None else memory) * samples // max(1, held))


def in_parts(samples: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """The samples (n, …) of every input in order, `size` at a time; the last may be fewer."""
    for start in range(0, len(samples[0]), size):
        yield tuple(x[start : start + size] for x in samples)


def held_out(total: int, every: int) -> Tensor:
    """(total,) whether a sample is held out: one in `every` is."""
    return torch.arange(total) % every == every - 1
