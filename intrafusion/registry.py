"""Named choices that users select in a spec and may extend with their own.

A registry maps a name to where its implementation lies ("module:attribute"), so that the
names are known without importing torch. Third parties add theirs through an entry-point
group of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from intrafusion.errors import ErrorCode, IntraFusionError


@dataclass(frozen=True)
class Registry:
    """The choices of one kind.

    `kind` names it in errors ("importance"), `group` is the entry-point group for the users'
    own, `built_in` maps each name to "module:attribute".
    """

    kind: str
    group: str
    built_in: Mapping[str, str] = field(default_factory=dict)
    error: ErrorCode = ErrorCode.INVALID_SPEC

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.built_in, *self._plugins}))

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._plugins

    def check(self, name: str) -> str:
        """`name` itself, or `ValueError` naming the choices (pydantic turns it into a 422)."""
        if name not in self:
            raise ValueError(f"{name!r} is no {self.kind}; choose one of {', '.join(self)}")
        return name

    def get(self, name: str) -> Any:
        """The implementation behind `name`; raises `IntraFusionError` naming the choices."""
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            return getattr(import_module(module), attribute)
        if name in self._plugins:
            return self._plugins[name].load()
        raise IntraFusionError(
            self.error,
            f"{name!r} is no {self.kind}.",
            f"Choose one of {', '.join(self)}.",
            given=name,
            choices=list(self),
        )
