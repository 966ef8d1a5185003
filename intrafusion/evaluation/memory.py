"""How much memory the activations of a forward pass need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.program.inputs import Samples
from intrafusion.program.program import Program


def peak_activation_bytes(program: Program) -> int:
    """The most bytes of activations that are alive at once while one sample goes through.

    A value lives from the operation that makes it to the last that reads it; views share what they
    are views of. Parameters and buffers are not counted, nor is what an operation allocates within
    itself.
    """
    watch = _Watch(program)
    with torch.no_grad():
        watch.run(*Samples(program.example_inputs).batch(1))
    return watch.peak


class _Watch(fx.Interpreter):
    """Runs a program and looks after each operation at what is alive."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.network())
        self.peak = 0
        self._own = {_storage(tensor) for tensor in program.tensors.values()}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        # What this operation reads for the last time is forgotten after it, so is still here.
        alive = {
            _storage(tensor): tensor.untyped_storage().nbytes()
            for tensor in _tensors([*self.env.values(), value])
        }
        held = sum(size for storage, size in alive.items() if storage not in self._own)
        self.peak = max(self.peak, held)
        return value


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
