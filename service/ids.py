"""Identifiers: a prefix that says what it is, then a sortable, unguessable word."""

from __future__ import annotations

import secrets
import time
from typing import Literal

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u

Prefix = Literal["model", "data", "job", "req", "key", "upload"]


def new_id(prefix: Prefix) -> str:
    """A new id: 10 characters of milliseconds, then 80 random bits; later ids sort later."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    word = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{word}"
