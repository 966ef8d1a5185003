"""Share of samples whose class is right."""

from __future__ import annotations

from torch import Tensor

TOP5_CLASSES = 6
"""With fewer classes nearly everything is among the first five."""


class Accuracy:
    """Top-1 and top-5 accuracy, over batches as they come."""

    def __init__(self) -> None:
        self._samples = self._first = self._fifth = 0
        self._classes = 0

    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Count a batch: `scores` (samples, classes), `labels` (samples,) class indices."""
        self._classes = scores.shape[1]
        best = scores.topk(min(5, self._classes), dim=1).indices
        right = best == labels.to(best.device)[:, None]
        self._samples += len(labels)
        self._first += int(right[:, 0].sum())
        self._fifth += int(right.any(dim=1).sum())

    @property
    def top1(self) -> float | None:
        """In [0, 1]; None where nothing was counted."""
        return self._first / self._samples if self._samples else None

    @property
    def top5(self) -> float | None:
        """In [0, 1]; None where nothing was counted or there are fewer than six classes."""
        if not self._samples or self._classes < TOP5_CLASSES:
            return None
        return self._fifth / self._samples
