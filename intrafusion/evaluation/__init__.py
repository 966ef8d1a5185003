"""What a compression cost and what it saved.

What needs torch is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intrafusion.evaluation.cost import macs
    from intrafusion.evaluation.landscape import loss_landscape
    from intrafusion.evaluation.latency import latencies
    from intrafusion.evaluation.measuring import Evaluation, evaluate

_HOMES = {
    "Evaluation": "intrafusion.evaluation.measuring",
    "evaluate": "intrafusion.evaluation.measuring",
    "loss_landscape": "intrafusion.evaluation.landscape",
    "latencies": "intrafusion.evaluation.latency",
    "macs": "intrafusion.evaluation.cost",
}

__all__ = ["Evaluation", "evaluate", "latencies", "loss_landscape", "macs"]


def __getattr__(name: str) -> Any:
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
