"""What a dry run may be asked for. Light: importing this costs no torch."""

from __future__ import annotations

from intrafusion.api import Gates
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.spec import CompressionSpec


def check_plannable(spec: CompressionSpec, gates: Gates | None = None) -> None:
    """Raise `INVALID_SPEC` for what only a network that was made could show."""
    if spec.limit is not None:
        kind, _ = spec.limit
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            f"A dry run makes no network, and only one that was made shows if it keeps to {kind}.",
            "Plan with a budget of sparsity, parameters, macs or latency.",
            budget=kind,
        )
    if gates is not None:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            "A dry run makes no network, and only one that was made can hold or miss a gate.",
            "Leave out the gates, or the dry run.",
        )
