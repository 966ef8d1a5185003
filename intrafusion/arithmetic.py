"""How a GPU computes convolutions: exactly while a network is worked on, fast while it is timed.

Left to itself cuDNN rounds what convolutions multiply to TF32, 10 bits, and may add up in another
order each time. A network read or refitted so would be compared with itself and found different,
and the same request would not give the same result. CPUs are not affected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact() -> Iterator[None]:
    """While the context lasts, convolutions multiply float32 as it is, always in one order.

    For the whole process; what was set before is set again afterwards.
    """
    with _set(tf32=False, deterministic=True):
        yield


@contextmanager
def as_deployed() -> Iterator[None]:
    """While the context lasts, convolutions are as fast as torch makes them by default."""
    with _set(tf32=True, deterministic=False):
        yield


@contextmanager
def _set(*, tf32: bool, deterministic: bool) -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    kinds = (cudnn.conv, cudnn.rnn)
    precisions, order = [kind.fp32_precision for kind in kinds], cudnn.deterministic
    cudnn.allow_tf32, cudnn.deterministic = tf32, deterministic
    try:
        yield
    finally:
        # By the older name first: torch refuses to read it where only the newer ones were set.
        cudnn.allow_tf32, cudnn.deterministic = "tf32" in precisions, order
        for kind, precision in zip(kinds, precisions, strict=True):
            if kind.fp32_precision != precision:
                kind.fp32_precision = precision
