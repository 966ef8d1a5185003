"""Samples under which batch norms see what they remember.

A batch norm remembers the mean and the variance of everything it saw in training. Inputs under
which every batch norm sees these again stand in for the data that is gone (Yin et al., Dreaming
to Distill, CVPR 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.calibration.made.inputs import has_real
from intrafusion.calibration.made.kind import SAMPLES, SCALES
from intrafusion.calibration.made.search import Aim, Distance, Searched
from intrafusion.program import Program
from intrafusion.program.nodes import arguments, name_of, tensor_name

TRIED = 7
"""Sizes that are searched from, at most; noise itself says which come first."""
ABOVE = 4.0
"""The search begins so many times as large as the size that brings a short one nearest."""


class Statistics(Searched):
    """Every batch norm sees the mean and the variance that it remembers."""

    name = "statistics"
    wanted = SAMPLES
    told = True

    def fits(self, program: Program) -> bool:
        return has_real(program) and bool(_norms(program))

    def aim(self, program: Program) -> Aim:
        return Remembered(program)

    def size(self, of_noise: Distance, after_a_search: Distance) -> float:
        # Noise that is too small is near and leads nowhere: larger ones are searched from too.
        first = SCALES.index(min(SCALES, key=of_noise))
        return ABOVE * min(SCALES[first : first + TRIED], key=after_a_search)


class Remembered(fx.Interpreter, Aim):
    """The distance is, per batch norm, the mean over channels of the squared difference of the
    means, relative to the variance, and of the squared relative difference of the standard
    deviations; averaged.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program.network().requires_grad_(requires_grad=False))
        self._tensors = program.tensors
        self._norms = _norms(program)
        self._distances: list[Tensor] = []

    def distance(self, inputs: Sequence[Tensor]) -> Tensor:
        self._distances = []
        self.run(*inputs)
        return torch.stack(self._distances).mean()

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self._norms:
            self._distances.append(self._distance(n, self.env[n.all_input_nodes[0]]))
        return super().run_node(n)

    def _distance(self, norm: fx.Node, value: Tensor) -> Tensor:
        mean, variance = (self._tensors[str(tensor_name(norm, position))] for position in (3, 4))
        others = [dim for dim in range(value.dim()) if dim != 1]
        seen_variance, seen_mean = torch.var_mean(value, others, correction=0)
        epsilon = arguments(norm)[7]
        spread, seen_spread = (variance + epsilon).sqrt(), (seen_variance + epsilon).sqrt()
        shift, widening = (seen_mean - mean) / spread, seen_spread / spread - 1
        return torch.stack([shift, widening]).square().sum(0).mean()


def _norms(program: Program) -> set[str]:
    """The names of the nodes that are batch norms with statistics of their own."""
    return {
        node.name
        for node in program.graph.nodes
        if node.op == "call_function"
        and name_of(node) == "batch_norm"
        and tensor_name(node, 3)
        and tensor_name(node, 4)
    }
