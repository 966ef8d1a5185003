"""Samples that a network tells apart, where its outputs are neither scores nor remembered.

A network that gives features, images or measured quantities is not sure of anything. But it was
trained to tell its inputs apart by them. Noise uses little of what it can do: most samples of
noise come out much alike. So inputs are sought whose outputs point away from each other in all
directions (as in contrastive learning: Wang and Isola, Understanding Contrastive Representation
Learning through Alignment and Uniformity on the Hypersphere, ICML 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from intrafusion.calibration.made.inputs import has_real
from intrafusion.calibration.made.kind import rows_wanted
from intrafusion.calibration.made.noise import audible
from intrafusion.calibration.made.search import Aim, Distance, Searched
from intrafusion.channels.walk import Walk
from intrafusion.program import Program
from intrafusion.program.precision import is_real

TEMPERATURE = 0.5
"""Cosines are divided by it: the lower, the more the nearest neighbours count."""


class Apart(Searched):
    """The outputs of all samples point in different directions, seen from their mean."""

    name = "apart"
    above = 1.0
    loss = (
        "the network's outputs are no scores to be sure of: inputs were made that it tells apart. "
        "A few unlabelled samples preserve more."
    )

    def fits(self, program: Program) -> bool:
        return has_real(program) and bool(_directed(program.outputs(*program.example_inputs)))

    def wanted(self, walked: Walk) -> int:
        return rows_wanted(walked)

    def aim(self, program: Program) -> Aim:
        return Directions(program)

    def size(self, program: Program, of_noise: Distance, after_a_search: Distance) -> float:
        return audible(program)


class Directions(Aim):
    """The distance is the log of the mean over other samples of exp(cosine / temperature).

    Averaged over samples and over the outputs that have directions.
    """

    def __init__(self, program: Program) -> None:
        self._network = program.network().requires_grad_(requires_grad=False)

    def distance(self, inputs: Sequence[Tensor]) -> Tensor:
        return torch.stack([_alike(x) for x in _directed(self._network(*inputs))]).mean()


def _alike(output: Tensor) -> Tensor:
    centred = output.flatten(1) - output.flatten(1).mean(0)
    directions = torch.nn.functional.normalize(centred)
    cosines = directions @ directions.T / TEMPERATURE
    others = ~torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    return cosines.masked_fill(~others, -torch.inf).logsumexp(1).mean() - math.log(len(cosines) - 1)


def _directed(outputs: Sequence[object]) -> list[Tensor]:
    """Those outputs (samples, …) that have more than one number for each sample."""
    return [x for x in outputs if is_real(x) and x.dim() > 1 and x[0].numel() > 1]
