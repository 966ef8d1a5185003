"""One way to measure every network, whoever compressed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import intrafusion
from examples.data import Images

BATCH = 500


@dataclass(frozen=True)
class Size:
    """Parameter elements, and multiply-accumulates of one sample's forward pass."""

    parameters: int
    macs: int


def predict(network: Callable[[Tensor], Tensor], images: Images) -> Tensor:
    """The class (n,) that `network` gives each of the n images."""
    with torch.no_grad():
        parts = torch.from_numpy(images.inputs).split(BATCH)
        return torch.cat([network(part).argmax(1) for part in parts])


def accuracy(predicted: Tensor, images: Images) -> float:
    """Share of `predicted` classes (n,) that are the images' labels."""
    return (predicted == torch.from_numpy(images.labels)).float().mean().item()


def size(network: nn.Module) -> Size:
    """The size of `network` as the engine counts it, the same way for all."""
    program = intrafusion.load(network, input_shapes=[[1, 1, 28, 28]])
    report = intrafusion.inspect(program)
    return Size(report.parameters, report.macs)
