"""The device, in a process of its own: torch forgets none, and other tests need none."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, ParamSpec, TypeVar

import pytest

from tests.intrafusion.device import accelerator, work

P = ParamSpec("P")
T = TypeVar("T")


@pytest.fixture(scope="session")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Calls a function, of `work` or another module, in the process that has the device."""
    if shutil.which("g++") is None:
        pytest.skip("the device is compiled with g++, and there is none")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, work.begin, (accelerator.build(folder),)) as pool:

        def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
            return pool.submit(function, *args, **kwargs).result()

        yield call
