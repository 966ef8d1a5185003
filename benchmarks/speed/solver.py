"""How long exact solvers work, which they do on the CPU while any other device waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import ot

from benchmarks.speed.part import Stopwatch
from intrafusion.transport import coupling

SOLVERS: tuple[tuple[Any, str], ...] = (
    (coupling, "survivor_plan"),
    (coupling, "full_plan"),
    (ot, "emd"),
)
"""Ours, and what the published code calls; they are given costs that have arrived on the CPU."""


@contextmanager
def solving() -> Iterator[Stopwatch]:
    """The wall seconds that `SOLVERS` take while the context lasts, one within another once."""
    watch, depth = Stopwatch(), 0

    def watched(solve: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            start = time.perf_counter()
            try:
                return solve(*args, **kwargs)
            finally:
                depth -= 1
                if depth == 0:
                    watch.seconds += time.perf_counter() - start

        return call

    with ExitStack() as patches:
        for module, name in SOLVERS:
            patches.enter_context(patch.object(module, name, watched(getattr(module, name))))
        yield watch
