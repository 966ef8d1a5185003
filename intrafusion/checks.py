"""What is looked at before a result is given out: errors, and warnings for the report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from intrafusion.calibration import Dataset, inversion
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.methods import METHODS
from intrafusion.program import Program
from intrafusion.report import CompensationReport, SearchReport
from intrafusion.spec import CompressionSpec

FEW = 64
"""Below so many different samples a refit is likely to learn them by heart."""
LOOKED_AT = 64
"""Samples on which the original is run to see whether it works."""


def check_original(program: Program, folded: Program, samples: Sequence[Tensor] | None) -> None:
    """Raise where a network cannot be compressed because it does not work itself.

    Args:
        program: the original.
        folded: the same without the batch norms that can be folded.
        samples: one tensor per input, (samples, …), if there are any.

    Raises:
        IntraFusionError: `WEIGHTS_NOT_FINITE` for NaN or infinity in a weight, also where folding
            makes them of a variance below 0; `MODEL_DOES_NOT_RUN` for NaN in the outputs.
    """
    broken = _not_finite(folded)
    if broken:
        raise IntraFusionError(
            ErrorCode.WEIGHTS_NOT_FINITE,
            f"{broken[0]} has NaN or infinity, in itself or in the batch norm folded into it.",
            "Give a checkpoint from before the training diverged; no variance may be below 0.",
            tensors=broken,
        )
    looked_at = tuple(x[:LOOKED_AT] for x in samples or program.example_inputs)
    if any(bool(output.isnan().any()) for output in program.outputs(*looked_at)):
        raise IntraFusionError(
            ErrorCode.MODEL_DOES_NOT_RUN,
            f"The network itself gives NaN on {'the' if samples else 'example'} samples.",
            "Give samples of the scale it was trained on, and a checkpoint that works on them.",
        )


def sample_warnings(given: Dataset | None, made: int) -> list[str]:
    """What there is to say of calibration samples that are few, or mostly the same.

    Args:
        given: by the user, if any are.
        made: how many the network made beside them.
    """
    if given is None:
        return []
    total = len(given)
    different = len({_digest(given.inputs, number) for number in range(total)})
    if different == 1 and total > 1:
        text = f"All {total} calibration samples are the same: they do not tell units apart."
    elif different < total // 2:
        text = f"Of {total} calibration samples only {different} are different."
    elif different < FEW:
        text = f"There are only {different} different calibration samples."
    else:
        return []
    beside = f" Beside them stand {made} that the network was made to give." if made else ""
    return [f"{text}{beside} Give some hundred varied ones; labels are not needed."]


def _digest(samples: Sequence[Tensor], number: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for x in samples:
        digest.update(x[number].contiguous().cpu().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def check_finite(program: Program) -> None:
    """Raise `COMPRESSION_FAILED` if a tensor of a compressed program holds NaN or infinity."""
    broken = _not_finite(program)
    if broken:
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            f"{broken[0]} came out with NaN or infinity.",
            "Exclude the groups that run through it, and report this network.",
            tensors=broken,
        )


def no_sample_warnings(
    program: Program, asked: CompressionSpec, compensation: CompensationReport
) -> list[str]:
    """What there is to say of a compression that had little to correct its layers by."""
    if asked.compensation != "auto" or not METHODS[asked.method].compensated:
        return []
    if compensation.mode == "inversion" and compensation.made_from is not None:
        loss = inversion.loss_of(program, compensation.made_from)
        return [f"No samples were given, and {loss}"] if loss else []
    if compensation.mode != "none":
        return []
    why = inversion.obstacle(program) or (
        "that takes longer than minutes here (compensation 'inversion' does it nevertheless)"
    )
    text = (
        f"No samples were given, and none were made, because {why}: the layers are corrected by "
        "their weights alone. A few unlabelled samples preserve far more."
    )
    return [text]


def fit_warnings(compensation: CompensationReport) -> list[str]:
    """What there is to say of a refit that holds on the samples it saw and not elsewhere."""
    fit, holdout = compensation.fit_error, compensation.holdout_error
    if fit is not None and holdout is not None and holdout > 2 * fit + 0.02:
        text = (
            f"The refit is good on the samples it saw (error {fit:.1%}) and bad on those held "
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


def _not_finite(program: Program) -> list[str]:
    return [
        name
        for name, tensor in program.tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
