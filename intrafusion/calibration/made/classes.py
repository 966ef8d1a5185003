"""Samples of whose classes a classifier is sure, as many of each.

Without batch norms it remembers nothing of what its data is like, but it is sure of what it knows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from intrafusion.calibration.made.inputs import has_real
from intrafusion.calibration.made.kind import SCALES
from intrafusion.calibration.made.search import Aim, Distance, Searched
from intrafusion.program import Program
from intrafusion.program.nodes import name_of
from intrafusion.program.precision import is_real

SURE = 0.1
"""Cross-entropy at which a network counts as sure of all its classes."""
ABOVE = 8.0
"""The search begins at most so many times as large as the least size at which it is."""
NEARLY = 2.0
"""Sizes at which it is so many times less sure than at the best count as good as the best."""

SCORING = frozenset(
    ["linear", "addmm", "mm", "matmul", "einsum", "convolution", "softmax", "log_softmax"]
)
"""What gives scores. What comes out of a norm or a ReLU are more likely features: a network with
its head cut off. To take these for scores costs far more than noise does for a classifier (see
docs/method-notes.md)."""

_PASSING = frozenset(
    [
        *("add", "sub", "mul", "div", "clone", "mean", "adaptive_avg_pool2d", "avg_pool2d"),
        *("reshape", "squeeze", "unsqueeze", "select", "slice", "permute", "transpose"),
    ]
)
"""Scores are still scores after these, where they meet other scores, parameters or numbers."""


class Classes(Searched):
    """The network is sure of the class of each sample, and every class has as many.

    Large noise makes many a network sure of anything, so the search begins not far above the least
    size at which a short one gets there. Others, recurrent ones say, large noise drives into
    saturation and never to be sure: they begin where they come nearest.
    """

    name = "classes"
    loss = (
        "no batch norm says what they are like: they were made so that the network is sure of "
        "their classes. A few unlabelled samples preserve more."
    )

    def fits(self, program: Program) -> bool:
        scores = program.outputs(*program.example_inputs)[0]
        scored = is_real(scores) and scores.dim() == 2 and scores.shape[1] > 1
        return has_real(program) and scored and _gives_scores(program)

    def aim(self, program: Program) -> Aim:
        return Sure(program)

    def size(self, of_noise: Distance, after_a_search: Distance) -> float:
        found: dict[float, float] = {}
        least: float | None = None
        for scale in SCALES:
            found[scale] = after_a_search(scale)
            if least is None and found[scale] < SURE:
                least, found = scale, {scale: found[scale]}
            if least is not None and scale >= ABOVE * least:
                break
        good = [s for s, distance in found.items() if distance <= NEARLY * min(found.values())]
        return good[0] if least is None else good[-1]


class Sure(Aim):
    """The distance is the cross-entropy of the scores."""

    def __init__(self, program: Program) -> None:
        self._network = program.network().requires_grad_(requires_grad=False)

    def distance(self, inputs: Sequence[Tensor]) -> Tensor:
        scores: Tensor = self._network(*inputs)[0]
        wanted = shuffled_classes(len(scores), scores.shape[1]).to(scores.device)
        return torch.nn.functional.cross_entropy(scores, wanted)


def _gives_scores(program: Program) -> bool:
    """Whether the first output of `program` may be scores, by what it is computed with."""
    (output,) = program.graph.find_nodes(op="output")
    return _are_scores(output.all_input_nodes[0])


def _are_scores(node: fx.Node) -> bool:
    sources = [source for source in node.all_input_nodes if source.op != "get_attr"]
    if name_of(node) in _PASSING and sources:
        return all(map(_are_scores, sources))
    return name_of(node) in SCORING


def shuffled_classes(samples: int, classes: int) -> Tensor:
    """(samples,) as many of each class, in an order that is random and always the same.

    In a regular order the samples that a refit holds out, one in so many, would be of some
    classes, and the others that it learns from of the rest.
    """
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    return order * classes // samples
