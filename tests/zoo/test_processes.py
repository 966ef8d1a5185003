"""A row that hangs or crashes costs that row alone."""

from __future__ import annotations

import os
import time
from functools import partial

import pytest

from benchmarks.zoo.processes import RowProcessError, in_own_process


def test_a_result_comes_back() -> None:
    assert in_own_process(partial(divmod, 7, 3), 60) == (2, 1)
    assert in_own_process(os.getpid, 60) != os.getpid()


def test_what_hangs_is_ended() -> None:
    in_own_process(os.getpid, 60)  # The first one waits for the imports.
    began = time.perf_counter()
    with pytest.raises(RowProcessError, match="ran out of its 1 s"):
        in_own_process(partial(time.sleep, 60), 1)
    assert time.perf_counter() - began < 20


def test_what_crashes_says_so() -> None:
    with pytest.raises(RowProcessError, match="code 3"):
        in_own_process(partial(os._exit, 3), 60)
