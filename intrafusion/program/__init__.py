"""File ⇄ program. What needs torch is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intrafusion.program.loading import load
    from intrafusion.program.program import Program

# No submodule may bear one of these names: importing it would hide the name behind it.
_HOMES = {
    "Program": "intrafusion.program.program",
    "load": "intrafusion.program.loading",
}

__all__ = ["Program", "load"]


def __getattr__(name: str) -> Any:
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
