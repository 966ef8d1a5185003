"""One claim about the service: what was measured, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

MiB = 1024**2


@dataclass(frozen=True)
class Figure:
    """One measured number, what it is compared with, and the ratio that was promised."""

    what: str
    measured: str
    beside: str
    ratio: float
    most: float | None = None
    least: float | None = None

    @property
    def promised(self) -> str:
        """The bound in words."""
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"

    @property
    def kept(self) -> bool:
        """Whether the promise is."""
        over = self.most is not None and self.ratio > self.most
        return not over and not (self.least is not None and self.ratio < self.least)
