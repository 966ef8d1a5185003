"""Seconds of a forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from intrafusion.arithmetic import as_deployed
from intrafusion.devices import wait_for
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.emit_torchscript import to_script
from intrafusion.program.inputs import Samples
from intrafusion.program.program import Program
from intrafusion.report import Latency

_WARM_UP = 4
"""TorchScript profiles its first runs and compiles in the next."""

_ROUNDS = (5, 200)
"""The fewest and the most times each program is run."""


def latencies(
    programs: Sequence[Program], *, batch: int = 1, threads: int = 1, seconds: float = 3.0
) -> list[Latency]:
    """The median time of a forward pass of each program, as TorchScript.

    The programs take turns, so that whatever else the machine does slows all of them alike.
    One thread is the default because several wait for each other at every operation, which on
    a busy machine takes longer than the work. Runs stop after `seconds` in all, once each
    program had its fewest rounds.
    """
    with on_threads(threads), as_deployed():
        runs = [_Run(program, batch) for program in programs]
        for run in runs:
            for _ in range(_WARM_UP):
                run.timed()
        times = _taking_turns(runs, seconds)
    return [
        Latency(
            median_ms=1000 * median(taken),
            batch=batch,
            threads=threads,
            device=_device_name(run.device),
        )
        for run, taken in zip(runs, times, strict=True)
    ]


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """While the context lasts, torch computes on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _taking_turns(runs: Sequence[_Run], seconds: float) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in runs]
    turns = list(zip(runs, times, strict=True))
    fewest, most = _ROUNDS
    start = time.perf_counter()
    for done in range(most):
        if done >= fewest and time.perf_counter() - start > seconds:
            break
        # Back and forth, because it matters who comes after whom.
        for run, taken in turns if done % 2 == 0 else reversed(turns):
            taken.append(run.timed())
    return times


class _Run:
    """A program ready to be timed on one batch."""

    def __init__(self, program: Program, batch: int) -> None:
        self.device = program.device
        self._inputs = Samples(program.example_inputs).batch(batch)
        self._forward = _forward(program)

    def timed(self) -> float:
        """Wall seconds of one forward pass."""
        wait_for(self.device)
        start = time.perf_counter()
        with torch.no_grad():
            self._forward(*self._inputs)
        wait_for(self.device)
        return time.perf_counter() - start


def _forward(program: Program) -> Callable[..., Any]:
    try:
        script: Callable[..., Any] = to_script(program)
    except IntraFusionError as error:
        # What TorchScript cannot say is timed as the graph it is.
        if error.code is not ErrorCode.FORMAT_NOT_POSSIBLE:
            raise
        return program.outputs
    return script


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
