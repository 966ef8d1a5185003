"""What is looked at before a result is given out: errors, and warnings for the report."""

from __future__ import annotations

import torch

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import Program
from intrafusion.report import CompensationReport, SearchReport


def check_finite(program: Program) -> None:
    """Raise `COMPRESSION_FAILED` if a tensor of a compressed program holds NaN or infinity."""
    broken = [
        name
        for name, tensor in program.tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if broken:
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            f"{broken[0]} came out with NaN or infinity.",
            "Exclude the groups that run through it, and report this network.",
            tensors=broken,
        )


def fit_warnings(compensation: CompensationReport) -> list[str]:
    """What there is to say of a refit that holds on the samples it saw and not elsewhere."""
    fit, holdout = compensation.fit_error, compensation.holdout_error
    if fit is not None and holdout is not None and holdout > 2 * fit + 0.02:
        text = (
            f"The refit is good on the calibration samples (error {fit:.1%}) and bad on those held "
            f"out ({holdout:.1%}): give more, or more varied, samples."
        )
        return [text]
    return []


def search_warnings(search: SearchReport | None, *, held_out: bool) -> list[str]:
    """What there is to say of a search: that it found nothing, or had to hold samples out."""
    if search is None:
        return []
    warnings = []
    if not any(each.within for each in search.tries):
        warnings.append(
            f"No smaller network keeps to {search.budget} {search.limit:g}: this is the original, "
            f"unchanged. The nearest that was tried is in the report's search."
        )
    if search.samples is not None and held_out:
        warnings.append(
            f"The networks were measured on {search.samples} of the calibration samples, which "
            "were held out of the refit; evaluation samples would leave all of them to it."
        )
    return warnings
