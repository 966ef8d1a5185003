"""Compression in several rounds: what each of them leaves, and finding groups again after one."""

from __future__ import annotations

from collections.abc import Mapping

from intrafusion.channels import Analysis, Group
from intrafusion.errors import ErrorCode, IntraFusionError


def units_due(analysis: Analysis, wanted: Mapping[Group, int], share: float) -> dict[Group, int]:
    """What each group keeps when that share of the units that shall go in the end has gone.

    Args:
        analysis: of the program as it is now.
        wanted: what the original's groups keep in the end.
        share: 1 in the last round.
    """
    due = {
        _layout(group): len(group) - round((len(group) - keep) * share)
        for group, keep in wanted.items()
    }
    lost = {layout for layout, keep in due.items() if keep > 1} - set(map(_layout, analysis.groups))
    if lost:
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            f"After a round, the group of {min(lost)[0][0]} is no longer found as it was.",
            "Set steps to 1, and report this network.",
        )
    return {
        group: due[_layout(group)]
        for group in analysis.groups
        if due.get(_layout(group), len(group)) < len(group)
    }


def _layout(group: Group) -> tuple[tuple[str, int], ...]:
    """What makes a group the same one after units have gone: where its units stand, how often."""
    return tuple((str(binding), binding.index.shape[1]) for binding in group.bindings)
