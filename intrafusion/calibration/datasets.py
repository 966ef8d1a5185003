"""Samples from files: .npz and .safetensors with `inputs` and, optionally, `labels`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Dataset:
    """Samples for one network.

    Attributes:
        inputs: one tensor per input of the network, each (samples, …).
        labels: class indices (samples,), or None.
        name: where they come from, for messages.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor | None = None
    name: str = "samples"

    def __len__(self) -> int:
        return self.inputs[0].shape[0]
