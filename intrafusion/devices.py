"""Where work is done: which device, when it is done with it, and how much it may put aside."""

from __future__ import annotations

import torch

ON_CPU = 1 << 30
"""Bytes of values that may be put aside in the memory of the process."""
SHARE = 4
"""Of the memory of a GPU one part in so many may be taken by values put aside."""


def chosen(device: str | torch.device) -> torch.device:
    """The device of that name; for `auto` a GPU where there is one."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait_for(device: torch.device) -> None:
    """Return when `device` has done all that it was given: other than a CPU it works on by itself.

    Without this, what is timed is how long it takes to say what is to be done.
    """
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def room(device: torch.device) -> int:
    """Bytes of values on `device` that may be put aside in its memory; what is more goes to disk.

    Of a GPU's memory a share of all there is, whatever is free: a disk is far slower than that.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) // SHARE
    return ON_CPU
