"""Memory of a device, as the one who hands it out counts it."""

from __future__ import annotations

import torch

from benchmarks.zoo.memory import peak_bytes, resident_bytes


def held(device: torch.device) -> int:
    """Bytes held now on `device`; from here on `peak` is the most since.

    Of a GPU those of tensors, elsewhere those of this process.
    """
    if device.type != "cuda":
        return resident_bytes()
    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))


def peak(device: torch.device) -> int:
    """The most bytes held on `device` since `held` was last called."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else peak_bytes()
