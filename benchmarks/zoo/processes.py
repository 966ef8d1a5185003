"""Each row in a process of its own: what crashes, hangs or eats memory spoils no other row."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

import torch

T = TypeVar("T")

_SECONDS_TO_LEAVE = 10
"""Time to put away what libraries registered for the end of a process."""


class RowProcessError(Exception):
    """The process ran out of time, or ended without a result."""


def in_own_process(measure: Callable[[], T], seconds: float) -> T:
    """The result of `measure`, a picklable callable, within `seconds`.

    Processes are forked from one that has the libraries imported and has computed nothing;
    they compute on one thread.
    Raises `RowProcessError`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.zoo.preload"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(measure, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise RowProcessError(f"ran out of its {seconds:.0f} s")
        result: T = receiver.recv()
        process.join(_SECONDS_TO_LEAVE)
    except EOFError:
        process.join()
        raise RowProcessError(f"the process ended with code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    return result


def _send(measure: Callable[[], object], sender: Connection) -> None:
    # Threads that wait for each other on a busy machine measure the machine.
    torch.set_num_threads(1)
    sender.send(measure())
