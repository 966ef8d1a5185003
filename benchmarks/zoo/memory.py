"""Memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path


def resident_bytes() -> int:
    """Memory held now; from here on `peak_bytes` is the most since."""
    # 5 resets the high-water mark (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most memory held since `resident_bytes` was last called."""
    return _status("VmHWM")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/self/status has no {field}")
