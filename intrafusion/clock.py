"""Telling a listener where the work is, and keeping the time it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from intrafusion.report import Progress, ProgressListener, Step


@dataclass
class Clock:
    """Keeps the wall seconds of every step; those of a step within another count only there.

    Attributes:
        listener: called whenever a step begins, goes on or ends.
        wait: called at the end of a step; returns when what was begun in it is done.
        seconds: by step, over all times it was done.
    """

    listener: ProgressListener
    wait: Callable[[], None] = lambda: None
    seconds: dict[str, float] = field(default_factory=dict)
    _open: list[Progress] = field(default_factory=list)
    _inner: list[float] = field(default_factory=list)

    @contextmanager
    def step(self, step: Step, total: int = 1) -> Iterator[None]:
        """While the context lasts, the work is at `step`, which has `total` parts."""
        self._open.append(Progress(step, 0, total))
        self._inner.append(0.0)
        self.listener(self._open[-1])
        start = time.perf_counter()
        yield
        self.wait()
        taken = time.perf_counter() - start
        if self._open[-1].done < self._open[-1].total:
            self.report(self._open[-1].total, self._open[-1].total)
        self._open.pop()
        self.seconds[step] = self.seconds.get(step, 0.0) + taken - self._inner.pop()
        if self._inner:
            self._inner[-1] += taken

    def report(self, done: int, total: int) -> None:
        """`done` of `total` parts of the innermost step are complete."""
        self._open[-1] = Progress(self._open[-1].step, done, total)
        self.listener(self._open[-1])
