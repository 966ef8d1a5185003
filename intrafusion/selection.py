"""Which groups the user means."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from intrafusion.channels import Analysis, Group
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.spec import CompressionSpec, Selector


def own_sparsities(analysis: Analysis, spec: CompressionSpec) -> dict[Group, float | None]:
    """The selected groups of a program, and the sparsity that `spec` gives each of its own, if any.

    `include`, `exclude` and `group_sparsity` of `spec` are looked at.
    """
    shares: dict[Group, float | None] = {}
    for number, group in enumerate(analysis.from_output):
        included = not spec.include or _matches(group, number, spec.include)
        if included and not _matches(group, number, spec.exclude):
            own = (s for name, s in spec.group_sparsity.items() if _matches(group, number, [name]))
            shares[group] = next(own, None)
    return {group: shares[group] for group in analysis.groups if group in shares}


def check_any_selected(analysis: Analysis, spec: CompressionSpec) -> None:
    """Raise `NOTHING_TO_PRUNE` if `spec` selects no group."""
    if not own_sparsities(analysis, spec):
        raise nothing_to_prune(analysis, 0)


def nothing_to_prune(analysis: Analysis, selected: int) -> IntraFusionError:
    """The error of a request that would remove nothing from the so many `selected` groups."""
    return IntraFusionError(
        ErrorCode.NOTHING_TO_PRUNE,
        f"No group of units would lose any: {len(analysis.groups)} groups were found, "
        f"{selected} of them are selected.",
        "`intrafusion inspect` shows the groups and what is frozen; raise the sparsity, lower "
        "round_to, or widen include and exclude.",
        groups=[group.name for group in analysis.groups],
    )


def _matches(group: Group, number: int, selectors: Iterable[Selector]) -> bool:
    """Whether one of `selectors` means `group`, the so-manieth counted from the output."""
    return any(
        int(selector) == number
        if isinstance(selector, int) or selector.isdecimal()
        else any(fnmatchcase(binding.tensor, selector) for binding in group.bindings)
        for selector in selectors
    )
