"""Which groups the user means."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from intrafusion.channels import Analysis, Group
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


def _matches(group: Group, number: int, selectors: Iterable[Selector]) -> bool:
    """Whether one of `selectors` means `group`, the so-manieth counted from the output."""
    return any(
        int(selector) == number
        if isinstance(selector, int) or selector.isdecimal()
        else any(fnmatchcase(binding.tensor, selector) for binding in group.bindings)
        for selector in selectors
    )
