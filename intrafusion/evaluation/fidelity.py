"""How far one program's outputs are from another's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.report import Fidelity, Histogram

BINS = 20
"""Of the histogram of distances, from 0 to the largest."""

Source = Literal["evaluation", "calibration", "random"]


class Distance:
    """Agreement and distances between two programs' outputs, over batches as they come.

    A sample's outputs are all its floating-point output values, as one vector. Values that
    are not finite in the original (a mask's −∞) are left out.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._agreeing: int | None = 0
        self._norm = self._cosine = 0.0
        self._distances: list[Tensor] = []

    def add(self, original: Sequence[Tensor], compressed: Sequence[Tensor]) -> None:
        """Compare a batch of output tensors, each (samples, …).

        Raises `IntraFusionError` with `COMPRESSION_FAILED` where the compressed program gives
        NaN or infinity and the original does not.
        """
        before, after = _vectors(original), _vectors(compressed)
        finite = before.isfinite()
        before, after = before.where(finite, 0), after.where(finite, 0)
        if not after.isfinite().all():
            raise IntraFusionError(
                ErrorCode.COMPRESSION_FAILED,
                "The compressed network gives NaN or infinity where the original does not.",
                "Compress less, or give calibration samples like those the network sees in use.",
            )
        self._samples += before.shape[0]
        self._distances.append((before - after).norm(dim=1).cpu())
        self._norm += float(before.norm(dim=1).sum())
        self._cosine += float(torch.cosine_similarity(before, after, dim=1).sum())
        if self._agreeing is not None and is_class_scores(original):
            same = original[0].argmax(dim=1) == compressed[0].argmax(dim=1)
            self._agreeing += int(same.sum())
        else:
            self._agreeing = None

    def result(self, source: Source) -> Fidelity:
        """The means over all samples; `source` says where they came from."""
        agreeing, distances = self._agreeing, torch.cat(self._distances)
        distance = float(distances.sum())
        return Fidelity(
            samples=self._samples,
            source=source,
            agreement=None if agreeing is None else agreeing / self._samples,
            output_distance=distance / self._samples,
            relative_distance=distance / self._norm if self._norm else 0.0,
            cosine=self._cosine / self._samples,
            distances=_histogram(distances),
        )


def _histogram(values: Tensor) -> Histogram:
    most = float(values.max()) or 1.0
    counts, edges = torch.histogram(values, BINS, range=(0.0, most))
    return Histogram(edges=edges.tolist(), counts=[int(count) for count in counts])


def is_class_scores(outputs: Sequence[Tensor]) -> bool:
    """Whether the first output is (samples, classes) of at least two classes."""
    first = outputs[0]
    return first.dim() == 2 and first.shape[1] > 1 and first.is_floating_point()


def _vectors(outputs: Sequence[Tensor]) -> Tensor:
    """Each sample's outputs in one row, in double precision."""
    rows = [
        x.reshape(x.shape[0], -1).double() for x in outputs if x.is_floating_point() and x.dim()
    ]
    return torch.cat(rows, dim=1)
