"""How near a network's outputs are to real-valued targets."""

from __future__ import annotations

import torch
from torch import Tensor

from intrafusion.report import Regression


class TargetErrors:
    """Squared and absolute errors, over batches as they come."""

    def __init__(self) -> None:
        self._count = 0
        self._squares = self._absolute = self._sum = self._sum_of_squares = 0.0

    def add(self, output: Tensor, targets: Tensor) -> None:
        """Count a batch: `output` and `targets`, both (samples, …)."""
        wanted = targets.to(output.device).double()
        error = output.double() - wanted
        self._count += wanted.numel()
        self._squares += float(error.square().sum())
        self._absolute += float(error.abs().sum())
        self._sum += float(wanted.sum())
        self._sum_of_squares += float(wanted.square().sum())

    def result(self) -> Regression | None:
        """The means over all values; None where nothing was counted."""
        if not self._count:
            return None
        spread = self._sum_of_squares - self._sum**2 / self._count
        noise = torch.finfo(torch.float32).eps * self._sum_of_squares
        return Regression(
            mse=self._squares / self._count,
            mae=self._absolute / self._count,
            r2=1 - self._squares / spread if spread > noise else None,
        )
