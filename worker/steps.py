"""The steps a job went through, timed by whoever watches it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from intrafusion.report import Step

START = "start"
"""From the start of the process to its first word: sandbox, interpreter, imports."""
_OTHER = "other"
_NAMES = frozenset(get_args(Step))


@dataclass(frozen=True)
class TimedStep:
    """A step and when it began and ended, in seconds since the epoch."""

    name: str
    began: float
    ended: float


class Stopwatch:
    """Times one step after the other; the job's word is taken for what it does, not for when."""

    def __init__(self) -> None:
        self._name = START
        self._began = time.time()
        self._steps: list[TimedStep] = []

    def enter(self, step: str) -> None:
        """The job is in `step` now; names that no engine knows are one."""
        name = step if step in _NAMES else _OTHER
        if name != self._name:
            self._close()
            self._name = name

    def stop(self) -> Sequence[TimedStep]:
        """The job has ended: all its steps in order."""
        self._close()
        return tuple(self._steps)

    def _close(self) -> None:
        moment = time.time()
        self._steps.append(TimedStep(self._name, self._began, moment))
        self._began = moment


def seconds_by_step(steps: Sequence[TimedStep]) -> Mapping[str, float]:
    """How long a job spent in each step, all its times together."""
    total: dict[str, float] = defaultdict(float)
    for step in steps:
        total[step.name] += max(0.0, step.ended - step.began)
    return total
