"""What a store of parts does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from intrafusion.errors import ErrorCode, IntraFusionError
from service.store.blobs import Incoming


class Part(Protocol):
    """The bytes of one request, on their way in."""

    def write(self, chunk: bytes) -> None:
        """Append bytes; they have arrived when it returns.

        Raises `CONFLICT` where another request appended to the file meanwhile, and `NOT_FOUND`
        where the file was given up.
        """

    def close(self) -> None:
        """Let others append."""


class Parts(Protocol):
    """The parts of all files. Every method may block."""

    chunk: int
    """Bytes that are best written at once."""

    def begin(self, upload_id: str) -> None:
        """Make room for a file of which nothing has arrived."""

    def arrived(self, upload_id: str) -> int:
        """Bytes that have arrived. Raises `UNAVAILABLE` where they do not lie here."""

    def append(self, upload_id: str, offset: int) -> Part:
        """A part that begins at `offset`.

        Raises `CONFLICT` where `offset` is not the end of what has arrived.
        """

    def whole(self, upload_id: str) -> AbstractContextManager[Incoming]:
        """All that has arrived, hashed, to be kept like a file that came at once.

        Raises FileNotFoundError where it was removed meanwhile.
        """

    def remove(self, upload_id: str) -> None:
        """Let go of what has arrived."""

    def remove_old(self, *, before: datetime) -> None:
        """Remove what arrived before that moment, whatever it belongs to."""


def check_end(arrived: int, offset: int) -> None:
    """Raise `CONFLICT` unless a part that begins at `offset` follows what has arrived."""
    if arrived != offset:
        raise IntraFusionError(
            ErrorCode.CONFLICT,
            f"{arrived} bytes have arrived; the part begins at {offset}.",
            "Ask with HEAD where to go on.",
            offset=arrived,
        )


def overtaken() -> IntraFusionError:
    """Another request is sending the same part."""
    return IntraFusionError(
        ErrorCode.CONFLICT,
        "Another request is sending a part of this upload.",
        "Wait for it, then ask with HEAD where to go on.",
    )
