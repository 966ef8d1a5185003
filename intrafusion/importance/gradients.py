"""The gradient of the loss on labelled samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from intrafusion.program import Program

BATCH = 64


def loss_gradients(
    program: Program, samples: tuple[Tensor, ...], labels: Tensor
) -> dict[str, Tensor]:
    """Gradient of the mean cross-entropy for every parameter of `program`, by name.

    Args:
        program: its first output are class scores (samples, classes).
        samples: one tensor per input, (samples, …).
        labels: class indices (samples,).
    """
    network = program.network()
    parameters = dict(network.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_()
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for start in range(0, len(labels), BATCH):
        part = slice(start, start + BATCH)
        with torch.enable_grad():
            scores = network(*(x[part] for x in samples))[0]
            loss = cross_entropy(scores, labels[part], reduction="sum") / len(labels)
            gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        for name, gradient in zip(total, gradients, strict=True):
            total[name] += gradient
    return total
