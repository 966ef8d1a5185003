"""Samples out of the network itself, where nobody has any.

What a network knows of its data, it can be made to say: the batch norms remember statistics, a
language model writes, a classifier is sure of its classes. `KINDS` has what is made of that, one
file each in `intrafusion.calibration.made`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from intrafusion.calibration.made.classes import Classes
from intrafusion.calibration.made.inputs import kept
from intrafusion.calibration.made.kind import FEWEST, Kind
from intrafusion.calibration.made.noise import Noise
from intrafusion.calibration.made.statistics import Statistics
from intrafusion.calibration.made.written import Written
from intrafusion.program import Program
from intrafusion.report import MadeFrom

KINDS: tuple[Kind, ...] = (Statistics(), Written(), Classes(), Noise())
"""The first that fits a network is made: what says more of its data stands first."""

_KEPT = (
    "Input {} holds integers that no table is addressed with, such as a mask: it was left as in "
    "the example inputs."
)


@dataclass(frozen=True)
class Inversion:
    """Synthesised samples.

    Attributes:
        samples: one tensor per input of the program, (samples, …).
        made_from: a name of `KINDS`.
        statistics_error: see `intrafusion.calibration.made.kind.Made`.
    """

    samples: tuple[Tensor, ...]
    made_from: MadeFrom
    statistics_error: float | None


def obstacle(program: Program) -> str:
    """Why `program` cannot be inverted, in words that follow "because"; empty if it can."""
    if _kind(program) is None:
        return "it takes neither real numbers nor ids that a table is addressed with"
    return ""


def is_affordable(program: Program) -> bool:
    """Whether inverting `program`, which has no `obstacle`, is a matter of minutes where it is."""
    return _fitting(program).affordable(program) >= FEWEST


def is_worth_adding(program: Program, given: int) -> bool:
    """Whether so many given samples are better with made ones beside them.

    Where they are few, a refit learns their chance features (see "Few samples" in
    docs/method-notes.md). Noise resembles nothing and is kept away from them.
    """
    kind = _kind(program)
    if kind is None or isinstance(kind, Noise) or given >= kind.enough:
        return False
    return kind.affordable(program) >= FEWEST and given < kind.count(program)


def invert(
    program: Program,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inversion:
    """Make samples of the first kind that fits `program`.

    Args:
        program: in float32 or float64, with no `obstacle`.
        seed: of all that is drawn.
        progress: called with the steps done and their total.
    """
    kind = _fitting(program)
    made = kind.make(program, kind.count(program), seed, progress)
    return Inversion(made.samples, kind.name, made.statistics_error)


def loss_of(program: Program, made_from: MadeFrom) -> str:
    """What is lost with samples of a kind, in words that follow "No samples were given, and".

    Empty where there is nothing to say.
    """
    said = next(kind.loss for kind in KINDS if kind.name == made_from)
    return " ".join(filter(None, (said, *map(_KEPT.format, kept(program)))))


def _fitting(program: Program) -> Kind:
    kind = _kind(program)
    assert kind is not None, "see `obstacle`"
    return kind


def _kind(program: Program) -> Kind | None:
    return next((kind for kind in KINDS if kind.fits(program)), None)
