"""What has arrived of files that arrive in parts, until they are whole.

In a folder a file grows where it lies, and is then moved. In an object store every part is an
object of its own and the database says which belong to the file, so that any host may go on.
"""

from __future__ import annotations

from service.store.blobs import Blobs
from service.store.database import Database
from service.store.parts.folder import FolderParts
from service.store.parts.interface import Parts
from service.store.parts.objects import ObjectParts

__all__ = ["Parts", "parts_in"]


def parts_in(blobs: Blobs, database: Database) -> Parts:
    """The parts that lie with `blobs`."""
    return FolderParts(blobs) if blobs.in_folder else ObjectParts(blobs, database)
