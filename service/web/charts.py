"""The geometry of the pictures; the templates draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from intrafusion.report import GroupReport


@dataclass(frozen=True)
class Bar:
    """A group: how many of its units were kept, and the bar's lengths in percent."""

    name: str
    units: int
    kept: int
    track: float
    fill: float


def group_bars(groups: Sequence[GroupReport]) -> list[Bar]:
    """One bar per group, as long as it has units, filled as far as they were kept."""
    most = max((group.units for group in groups), default=1)
    return [
        Bar(
            name=group.name.removesuffix(".weight"),
            units=group.units,
            kept=group.kept,
            track=100 * group.units / most,
            fill=100 * group.kept / most,
        )
        for group in groups
    ]


@dataclass(frozen=True)
class Point:
    """A network: how large it is, how good, and where it leads if anywhere."""

    size: float
    quality: float
    label: str
    kind: str
    href: str | None = None


@dataclass(frozen=True)
class Placed:
    """A point where it is drawn."""

    point: Point
    x: float
    y: float


@dataclass(frozen=True)
class Tick:
    """A line of the grid and what is written at it."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A scatter of networks: size to the right, quality upwards, and a line through tried ones."""

    width: int
    height: int
    left: int
    bottom: int
    points: list[Placed]
    line: str
    across: list[Tick]
    up: list[Tick]


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 320, 64, 20, 16, 284


def curve(points: Sequence[Point]) -> Curve | None:
    """The picture of at least two networks; None for fewer."""
    if len(points) < 2:
        return None
    sizes = _span([p.size for p in points], least=0.0)
    qualities = _span([p.quality for p in points])

    def x(size: float) -> float:
        return _LEFT + (size - sizes[0]) / (sizes[1] - sizes[0]) * (_WIDTH - _LEFT - _RIGHT)

    def y(quality: float) -> float:
        share = (quality - qualities[0]) / (qualities[1] - qualities[0])
        return _BOTTOM - share * (_BOTTOM - _TOP)

    placed = [Placed(p, round(x(p.size), 1), round(y(p.quality), 1)) for p in points]
    tried = sorted((p for p in placed if p.point.kind != "job"), key=lambda p: p.x)
    return Curve(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        bottom=_BOTTOM,
        points=placed,
        line=" ".join(f"{p.x},{p.y}" for p in tried),
        across=[Tick(round(x(v), 1), _short(v)) for v in _ticks(*sizes)],
        up=[Tick(round(y(v), 1), f"{v:.1%}") for v in _ticks(*qualities)],
    )


def _span(values: Sequence[float], least: float | None = None) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.12 or abs(high) * 0.05 or 1.0
    return (low - margin if least is None else least), high + margin


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between `low` and `high`."""
    raw = (high - low) / about
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(m for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw) * magnitude
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _short(number: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:g}{unit}"
    return f"{number:g}"
