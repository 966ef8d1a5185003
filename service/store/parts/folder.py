"""Parts in a folder: each is appended to the file that they make."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from intrafusion.errors import ErrorCode, IntraFusionError
from service.store.blobs import CHUNK, Blobs, Incoming
from service.store.parts.interface import check_end, overtaken


class FolderParts:
    """See `Parts`. Hosts that share the folder share the parts."""

    chunk = CHUNK

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def begin(self, upload_id: str) -> None:
        """Make an empty file."""
        self._blobs.partial(upload_id).touch()

    def arrived(self, upload_id: str) -> int:
        """The file's size."""
        try:
            return self._blobs.partial(upload_id).stat().st_size
        except FileNotFoundError as elsewhere:
            raise _elsewhere(upload_id) from elsewhere

    def append(self, upload_id: str, offset: int) -> FolderPart:
        """The file, locked against other requests."""
        try:
            file = self._blobs.partial(upload_id).open("r+b")
        except FileNotFoundError as elsewhere:
            raise _elsewhere(upload_id) from elsewhere
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            check_end(file.seek(0, os.SEEK_END), offset)
        except OSError as locked:
            file.close()
            raise overtaken() from locked
        except IntraFusionError:
            file.close()
            raise
        return FolderPart(file)

    @contextmanager
    def whole(self, upload_id: str) -> Iterator[Incoming]:
        """The file as it lies there."""
        yield self._blobs.whole(self._blobs.partial(upload_id))

    def remove(self, upload_id: str) -> None:
        """Remove the file."""
        self._blobs.partial(upload_id).unlink(missing_ok=True)

    def remove_old(self, *, before: datetime) -> None:
        """Remove files to which nothing was appended since."""
        for path in self._blobs.partials():
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                path.unlink(missing_ok=True)


@dataclass
class FolderPart:
    """See `Part`."""

    file: BinaryIO

    def write(self, chunk: bytes) -> None:
        """Append to the file."""
        self.file.write(chunk)
        self.file.flush()

    def close(self) -> None:
        """Close the file, which unlocks it."""
        self.file.close()


def _elsewhere(upload_id: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.UNAVAILABLE,
        f"What has arrived of {upload_id} does not lie in this host's folder.",
        "Ask again, for the host that has it to answer. Hosts that share no folder need "
        "BLOB_URL to name an object store.",
        id=upload_id,
    )
