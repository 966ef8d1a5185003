"""What every kind of made-up samples has to say and to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from intrafusion.batches import samples_at_a_time
from intrafusion.channels.walk import walk
from intrafusion.effort import affordable_times
from intrafusion.evaluation.cost import macs
from intrafusion.program import Program
from intrafusion.report import MadeFrom

SAMPLES, FEWEST = 192, 16
"""So many are made out of batch norms, or as many as are a matter of minutes and memory bears. Few
are far better than none: fashion_resnet with half of its channels loses 4 points with 16, and 75
with none."""
MOST = 768
"""So many where no batch norm says what data is like: the MLP of the examples at 70 % loses 26
points with 192 and 13 with 768, the vision transformer with a tenth of its parameters 13 with 256
and 7 with 768, the GRU at 70 % 4.7 with 512 and 3.6 with 768."""

SCALES = tuple(2.0**power for power in range(-8, 11))
"""Some networks take pixels of 0 … 1, some of 0 … 255: noise of each size is looked at."""

Progress = Callable[[int, int], None]
"""Called with the steps done and their total."""


@dataclass(frozen=True)
class Made:
    """Made-up samples.

    Attributes:
        samples: one tensor per input of the program, (samples, …).
        statistics_error: how far what batch norms see under them is from what these remember, see
            `intrafusion.calibration.made.statistics`; None where none was asked.
    """

    samples: tuple[Tensor, ...]
    statistics_error: float | None = None


class Kind(ABC):
    """A way to make samples for a network out of nothing but the network.

    Attributes:
        name: what the report calls it.
        wanted: how many samples to make where time and memory bear them.
        enough: how many samples somebody has to give so that made ones beside them add nothing.
        memory: bytes of activations that all samples together may take, where they are held at the
            same time; None where the samples are made some at a time.
        loss: what is lost with them, in words that follow "No samples were given, and"; empty:
            nothing to speak of.
    """

    name: ClassVar[MadeFrom]
    wanted: ClassVar[int] = MOST
    enough: ClassVar[int] = SAMPLES
    memory: ClassVar[int | None] = None
    loss: ClassVar[str] = ""

    @abstractmethod
    def fits(self, program: Program) -> bool:
        """Whether samples of this kind can be made for `program`."""

    @abstractmethod
    def passes(self, program: Program) -> int:
        """How many forward passes of `program` one sample costs."""

    @abstractmethod
    def make(self, program: Program, count: int, seed: int, progress: Progress) -> Made:
        """Make `count` samples for `program`, which computes in float32 or float64."""

    def affordable(self, program: Program) -> int:
        """How many samples are a matter of minutes where `program` is."""
        return affordable_times(self.passes(program) * macs(program), program.device)

    def count(self, program: Program) -> int:
        """How many samples to make: those wanted, if time and memory bear them."""
        bounds = [self.wanted, self.affordable(program)]
        if self.memory is not None:
            bounds.append(samples_at_a_time(program, walk(program), self.memory))
        return max(FEWEST, min(bounds))
