"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import datetime

from service.store.database import now

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def size(count: float | None) -> str:
    """1.2 MB for 1200000; a dash for nothing."""
    if count is None:
        return "–"
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return (
        f"{value:.0f} {_UNITS[unit]}"
        if unit == 0 or value >= 99.95
        else f"{value:.1f} {_UNITS[unit]}"
    )


def count(number: float | None) -> str:
    """1,234,567; a dash for nothing."""
    return "–" if number is None else f"{number:,.0f}"


def percent(share: float | None) -> str:
    """92.95 % for 0.9295; a dash for nothing."""
    return "–" if share is None else f"{share:.2%}".replace("%", "\u202f%")


def milliseconds(number: float | None) -> str:
    """0.71 ms; a dash for nothing."""
    return "–" if number is None else f"{number:.3g} ms"


def points(change: float | None) -> str:
    """−0.45 points for a change of −0.0045."""
    return "" if change is None else f"{_signed(change * 100, 2)} points"


def change(before: float | None, after: float | None) -> str:
    """−73.2 % for what became smaller; nothing where one is not known."""
    if not before or after is None:
        return ""
    return f"{_signed((after / before - 1) * 100, 1)}\u202f%"


def ratio(before: float | None, after: float | None) -> str:
    """3.7× for what became so many times smaller; nothing where one is not known."""
    return f"{before / after:.1f}×" if before and after else ""


def duration(began: datetime | None, ended: datetime | None) -> str:
    """How long it took, or has taken until now."""
    if began is None:
        return "–"
    seconds = ((ended or now()) - began).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def elapsed(began: datetime | None) -> str:
    """Seconds until now, as a plain number; nothing where it has not begun."""
    return "" if began is None else f"{(now() - began).total_seconds():.1f}"


def ago(moment: datetime) -> str:
    """How long ago it was, roughly; the date for what is older than a week."""
    seconds = (now() - moment).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        number = int(seconds // length)
        if unit == "day" and number >= 7:
            return f"{moment:%d %b %Y}"
        if number:
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def _signed(number: float, digits: int) -> str:
    text = f"{abs(number):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if number > 0 else '−'}{text}"
