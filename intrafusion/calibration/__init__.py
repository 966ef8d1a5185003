"""Samples on which consumers are refitted and programs are measured.

What needs torch is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intrafusion.calibration.datasets import Dataset, check_fits, load_dataset

__all__ = ["Dataset", "check_fits", "load_dataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("intrafusion.calibration.datasets"), name)
