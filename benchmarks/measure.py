"""One way to measure every network, whoever compressed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import intrafusion
from examples.data import Labelled

BATCH = 500


@dataclass(frozen=True)
class Size:
    """Parameter elements, and multiply-accumulates of one sample's forward pass."""

    parameters: int
    macs: int


def predict(network: Callable[[Tensor], Tensor], samples: Labelled) -> Tensor:
    """The class (n,) that `network` gives each of the n samples."""
    with torch.no_grad():
        parts = torch.from_numpy(samples.inputs).split(BATCH)
        return torch.cat([network(part).argmax(1) for part in parts])


def accuracy(predicted: Tensor, samples: Labelled) -> float:
    """Share of `predicted` classes (n,) that are the samples' labels."""
    return (predicted == torch.from_numpy(samples.labels)).float().mean().item()


def size(program: intrafusion.Program) -> Size:
    """The size of `program` as the engine counts it, the same for all."""
    report = intrafusion.inspect(program)
    return Size(report.parameters, report.macs)
