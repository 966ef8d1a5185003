"""One row: a method on a network at one sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Data = Literal["", "none", "unlabelled"]


@dataclass(frozen=True)
class Row:
    """A method on a network, measured on all test samples.

    Attributes:
        network: a name of `examples.networks.NETWORKS`.
        method: who did it.
        choice: with which of their choices, the best on held-out samples.
        data: what the method was given; nothing for the original.
        sparsity: share of all channels removed; 0 for the original.
        accuracies: in [0, 1], one per seed.
        parameters, macs: of the result with the first seed.
        seconds: with the first seed, loading left out.
        latency: of the result with the first seed, in multiples of the original's; see
            `intrafusion.evaluation.latencies`. None: not measured.
    """

    network: str
    method: str
    choice: str
    data: Data
    sparsity: float
    accuracies: Sequence[float]
    parameters: int
    macs: int
    seconds: float
    latency: float | None = None

    @property
    def accuracy(self) -> float:
        return fmean(self.accuracies)

    @property
    def key(self) -> tuple[str, str, Data, float]:
        """What there is one row of."""
        return self.network, self.method, self.data, self.sparsity

    @property
    def cell(self) -> tuple[str, Data, float]:
        """What methods are compared within."""
        return self.network, self.data, self.sparsity
