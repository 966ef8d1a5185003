"""One claim about speed: what is measured, and what is promised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

Row = Mapping[str, float | str]
"""The cells of a table's line, by the heading of their column."""


@dataclass(frozen=True)
class Part:
    """A table of its own.

    Attributes:
        title: its heading.
        caption: what the columns say.
        measure: gives its rows, all with the same headings.
        broken: what the rows promise and do not keep, in words.
    """

    title: str
    caption: str
    measure: Callable[[], Iterator[Row]]
    broken: Callable[[Sequence[Row]], list[str]]


@dataclass
class Stopwatch:
    """Seconds of processor time, all threads together: other programs do not disturb it."""

    seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """The processor time that what stands below it takes."""
    watch = Stopwatch()
    start = time.process_time()
    yield watch
    watch.seconds = time.process_time() - start
