"""Parts as objects of an object store, in the order that the database has."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from intrafusion.errors import ErrorCode, IntraFusionError
from service.store import partial_uploads as store
from service.store.blobs import CHUNK, Blobs, Incoming
from service.store.database import Database
from service.store.parts.interface import check_end, overtaken

_FOLDER = "uploads"


class ObjectParts:
    """See `Parts`. Every host that has the object store and the database has the parts.

    No request locks anything: of several that append at the same place the first to be recorded
    counts, and the others hear of a conflict. As each object has a name of its own, none can
    overwrite what counts.
    """

    chunk = 8 * CHUNK

    def __init__(self, blobs: Blobs, database: Database) -> None:
        self._blobs = blobs
        self._database = database

    def begin(self, upload_id: str) -> None:
        """Nothing to do."""

    def arrived(self, upload_id: str) -> int:
        """What has been recorded."""
        with self._database.read() as session:
            return store.count_arrived(session, upload_id)

    def append(self, upload_id: str, offset: int) -> ObjectPart:
        """Objects that follow what has been recorded."""
        check_end(self.arrived(upload_id), offset)
        return ObjectPart(self._blobs, self._database, upload_id, offset)

    @contextmanager
    def whole(self, upload_id: str) -> Iterator[Incoming]:
        """The objects, one after the other, brought to this host."""
        with self._database.read() as session:
            names = store.list_parts(session, upload_id)
        with self._blobs.begin() as incoming:
            for name in names:
                for chunk in self._blobs.read(name):
                    incoming.write(chunk)
            yield incoming

    def remove(self, upload_id: str) -> None:
        """Forget and remove the objects, recorded or not."""
        with self._database.write() as session:
            store.delete_parts(session, upload_id)
        self._blobs.remove(self._blobs.names(f"{_FOLDER}/{upload_id}"))

    def remove_old(self, *, before: datetime) -> None:
        """Remove objects stored before."""
        self._blobs.remove(self._blobs.names(_FOLDER, before=before))


@dataclass
class ObjectPart:
    """See `Part`."""

    blobs: Blobs
    database: Database
    upload_id: str
    end: int

    def write(self, chunk: bytes) -> None:
        """Store an object, then record it."""
        if not chunk:
            return
        name = f"{_FOLDER}/{self.upload_id}/{self.end}-{uuid.uuid4().hex}"
        self.blobs.write(name, chunk)
        try:
            with self.database.write() as session:
                store.add_part(
                    session, self.upload_id, begins=self.end, bytes=len(chunk), name=name
                )
        except IntegrityError as refused:  # this place is taken, or the upload was given up
            self.blobs.remove([name])
            raise self._refusal() from refused
        self.end += len(chunk)

    def close(self) -> None:
        """Nothing to do."""

    def _refusal(self) -> IntraFusionError:
        with self.database.read() as session:
            given_up = not store.is_known(session, self.upload_id)
        if given_up:
            return IntraFusionError(
                ErrorCode.NOT_FOUND,
                f"The upload {self.upload_id} was given up.",
                "Begin a new one with POST /v1/uploads.",
                id=self.upload_id,
            )
        return overtaken()
