"""One claim about speed: what is measured, and what is promised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from intrafusion.devices import wait_for

Row = Mapping[str, float | str]
"""The cells of a table's line, by the heading of their column."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """A table of its own, or one for every kind of device that it was measured on.

    Attributes:
        title: its heading.
        caption: what the columns say.
        measure: gives its rows on a device, all with the same headings.
        broken: what the rows promise and do not keep, in words; promised is something of CPUs.
        elsewhere: what is else to be said of the columns on a device other than the CPU.
    """

    title: str
    caption: str
    measure: Callable[[torch.device], Iterator[Row]]
    broken: Callable[[Sequence[Row]], list[str]]
    elsewhere: str = ""


@dataclass
class Stopwatch:
    """Seconds of processor time, all threads together: other programs do not disturb it.

    On a device other than the CPU they are wall-clock seconds until it is done, as processors say
    nothing of it.
    """

    seconds: float = 0.0


def now(device: torch.device) -> float:
    """The seconds that a `Stopwatch` for `device` shows the difference of."""
    if device.type == "cpu":
        return time.process_time()
    wait_for(device)
    return time.perf_counter()


@contextmanager
def timed(device: torch.device = CPU) -> Iterator[Stopwatch]:
    """The time that what stands below it takes."""
    watch = Stopwatch()
    start = now(device)
    yield watch
    watch.seconds = now(device) - start
