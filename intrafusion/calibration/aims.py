"""What made-up samples are to bring about in a network, and from which size of noise to seek it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.program import Program
from intrafusion.program.nodes import arguments, name_of, tensor_name
from intrafusion.program.precision import is_real

SCALES = tuple(2.0**power for power in range(-8, 11))
"""Some networks take pixels of 0 … 1, some of 0 … 255: noise of each size is looked at."""
TRIED = 7
"""Of them so many are searched from at most, where noise itself says which come first."""
SURE = 0.1
"""Cross-entropy at which a network counts as sure of all its classes."""

Distance = Callable[[float], float]
"""How far inputs of a size are from the aim."""


class Aim(ABC):
    """What samples are to bring about.

    Attributes:
        above: the search begins so many times as large as `size` says. What shrinks stays different
            from sample to sample; what grows becomes alike.
    """

    above: float

    @abstractmethod
    def distance(self, inputs: Sequence[Tensor]) -> Tensor:
        """How far `inputs`, one tensor (samples, …) per input of the program, are from it: ()."""

    @abstractmethod
    def size(self, of_noise: Distance, after_a_search: Distance) -> float:
        """The size among `SCALES` of inputs like those that the network knows."""


class Statistics(fx.Interpreter, Aim):
    """Every batch norm sees the mean and the variance that it remembers.

    The distance is, per batch norm, the mean over channels of the squared difference of the means,
    relative to the variance, and of the squared relative difference of the standard deviations;
    averaged.
    """

    above = 4.0

    def __init__(self, program: Program) -> None:
        super().__init__(program.network().requires_grad_(requires_grad=False))
        self._tensors = program.tensors
        self._norms = _norms(program)
        self._distances: list[Tensor] = []

    def distance(self, inputs: Sequence[Tensor]) -> Tensor:
        self._distances = []
        self.run(*inputs)
        return torch.stack(self._distances).mean()

    def size(self, of_noise: Distance, after_a_search: Distance) -> float:
        # Noise that is too small is near and leads nowhere: larger ones are searched from too.
        first = SCALES.index(min(SCALES, key=of_noise))
        return min(SCALES[first : first + TRIED], key=after_a_search)

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


class Classes(Aim):
    """The network is sure of the class of each sample, and every class has as many.

    The distance is the cross-entropy of its scores. Large noise makes a network sure of anything,
    so the least size at which a search gets there is taken.
    """

    above = 8.0

    def __init__(self, program: Program) -> None:
        self._network = program.network().requires_grad_(requires_grad=False)

    def distance(self, inputs: Sequence[Tensor]) -> Tensor:
        scores: Tensor = self._network(*inputs)[0]
        wanted = shuffled_classes(len(scores), scores.shape[1]).to(scores.device)
        return torch.nn.functional.cross_entropy(scores, wanted)

    def size(self, of_noise: Distance, after_a_search: Distance) -> float:
        found: dict[float, float] = {}
        for scale in SCALES:
            found[scale] = after_a_search(scale)
            if found[scale] < SURE:
                return scale
        return min(found, key=found.__getitem__)


def aim_of(program: Program) -> Callable[[Program], Aim] | None:
    """Makes what samples of `program` can be sought by; None: nothing says what they are like."""
    if _norms(program):
        return Statistics
    scores = program.outputs(*program.example_inputs)[0]
    if is_real(scores) and scores.dim() == 2 and scores.shape[1] > 1:
        return Classes
    return None


def shuffled_classes(samples: int, classes: int) -> Tensor:
    """(samples,) as many of each class, in an order that is random and always the same.

    In a regular order the samples that a refit holds out, one in so many, would be of some
    classes, and the others that it learns from of the rest.
    """
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    return order * classes // samples


def finite(distance: Tensor) -> float:
    """The distance as a number, infinite where it is none."""
    found = float(distance)
    return found if math.isfinite(found) else math.inf


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
