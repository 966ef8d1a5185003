"""How much may be computed unasked: what `auto` does by itself has to stay a matter of minutes."""

from __future__ import annotations

import torch

AFFORDABLE = {"cpu": 5e12, "cuda": 1e15}
"""Multiply-accumulates by kind of device: minutes of one CPU core, or of one GPU."""


def affordable_times(macs: float, device: torch.device) -> int:
    """How often so many multiply-accumulates are a matter of minutes on `device`."""
    return int(AFFORDABLE.get(device.type, AFFORDABLE["cpu"]) // max(macs, 1))
