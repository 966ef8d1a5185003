"""Bytes, kept under their own SHA-256: in a folder, or in an object store by URL."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

CHUNK = 1024**2
_SENT = 8 * CHUNK
"""What of a large blob goes to an object store at once; all that is on its way is in memory."""

_REQUEST = "300s"
"""How long an object store may take for a request, such as putting the parts of a large object
together. After its own 30 seconds obstore would ask again for what the store has just done.
"""


@dataclass(frozen=True)
class Blob:
    """Stored bytes: their hexadecimal SHA-256 and how many they are."""

    sha256: str
    bytes: int


class Blobs:
    """The blob store at `url`. `spool` is a local folder for bytes on their way in.

    A blob appears whole or not at all: bytes are written and hashed in the spool and then
    moved. With `file://` the spool lies inside the store's folder, so that moving is a rename.
    """

    def __init__(self, url: str, *, spool: Path) -> None:
        address = urlsplit(url)
        self._folder: Path | None = None
        self._store: ObjectStore
        if address.scheme == "file":
            self._folder = Path(unquote(address.path))
            spool = self._folder / "incoming"
            self._store = LocalStore(self._folder, mkdir=True)
        else:
            # In the environment: obstore reads no option from there once one is given in code.
            for owner in ("AWS", "AZURE", "GOOGLE"):
                os.environ.setdefault(f"{owner}_TIMEOUT", _REQUEST)
            self._store = from_url(url)
        self._spool = spool
        self._spool.mkdir(parents=True, exist_ok=True)

    def clean(self) -> None:
        """Remove what a killed process left in the spool. Only while nothing is being stored."""
        for leftover in self._spool.iterdir():
            leftover.unlink()

    def ping(self) -> None:
        """Raise `OSError` or obstore's error when the store does not answer."""
        if self._folder is not None and not os.access(self._folder, os.W_OK):
            raise OSError(f"{self._folder} cannot be written to")
        try:
            obstore.head(self._store, _key("0" * 64))
        except (NotFoundError, FileNotFoundError):
            return

    def begin(self) -> Incoming:
        """A place to write bytes to; `keep` them, or they are gone when it closes."""
        return Incoming(self, self._spool / uuid.uuid4().hex)

    def partial(self, name: str) -> Path:
        """Where a file that arrives in parts lies until it is whole; survives `clean`."""
        folder = self._spool.parent / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def partials(self) -> list[Path]:
        """All files that arrive in parts."""
        return list(self.partial("").iterdir())

    def whole(self, path: Path) -> Incoming:
        """A file that has arrived in parts, hashed, to be kept like one that came at once."""
        with path.open("rb") as file:
            digest: Any = hashlib.file_digest(file, "sha256")
        incoming = Incoming(self, path, size=path.stat().st_size, _digest=digest)
        incoming._file = path.open("rb+")
        return incoming

    def adopt(self, source: BinaryIO) -> Blob:
        """Store what `source` holds from where it stands to its end."""
        with self.begin() as incoming:
            while chunk := source.read(CHUNK):
                incoming.write(chunk)
            return incoming.keep()

    def _put(self, path: Path, sha256: str) -> None:
        if self._folder is None:
            obstore.put(self._store, _key(sha256), path, chunk_size=_SENT, max_concurrency=3)
            return
        target = self._folder / _key(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o444)
        path.replace(target)

    def fetch(self, sha256: str, destination: Path) -> None:
        """Put the blob at `destination` as a file not to be written to.

        Raises FileNotFoundError when there is no such blob.
        """
        if self._folder is not None:
            source = self._folder / _key(sha256)
            try:
                os.link(source, destination)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, destination)
            return
        found = obstore.get(self._store, _key(sha256))
        with destination.open("wb") as file:
            for chunk in found.stream(min_chunk_size=CHUNK):
                file.write(chunk)

    @property
    def in_folder(self) -> bool:
        """Whether the bytes lie in a folder of this machine."""
        return self._folder is not None

    def link(self, sha256: str, *, seconds: float) -> str | None:
        """An address from which anyone may fetch the blob for a while; None for a folder."""
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        return obstore.sign(self._store, "GET", _key(sha256), timedelta(seconds=seconds))

    def list_old(self, *, before: datetime) -> Iterator[str]:
        """SHA-256 of every blob that was last stored before that moment."""
        for page in obstore.list(self._store, prefix="sha256"):
            for entry in page:
                if entry["last_modified"] < before:
                    yield entry["path"].rpartition("/")[2]

    def remove_old(self, sha256: str, *, before: datetime) -> bool:
        """Remove a blob unless it was stored again since that moment; whether it is gone.

        In a folder a blob that is stored again at this very moment survives. In an object store
        that is so up to the time of one request.
        """
        if self._folder is None:
            if obstore.head(self._store, _key(sha256))["last_modified"] >= before:
                return False
            obstore.delete(self._store, _key(sha256))
            return True
        aside = self._spool / f"{sha256}.{uuid.uuid4().hex}"
        (self._folder / _key(sha256)).rename(aside)
        if datetime.fromtimestamp(aside.stat().st_mtime, UTC) >= before:
            self._put(aside, sha256)
            return False
        aside.unlink()
        return True

    def write(self, name: str, content: bytes) -> None:
        """Store an object that is no blob."""
        obstore.put(self._store, name, content, use_multipart=False)

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of such an object, in chunks. Raises FileNotFoundError when there is none."""
        for chunk in obstore.get(self._store, name).stream(min_chunk_size=CHUNK):
            yield bytes(chunk)

    def names(self, folder: str | None = None, *, before: datetime | None = None) -> list[str]:
        """All that is kept, or in one folder of it, or only what was stored before that moment."""
        return [
            entry["path"]
            for page in obstore.list(self._store, prefix=folder)
            for entry in page
            if before is None or entry["last_modified"] < before
        ]

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects."""
        if names:
            obstore.delete(self._store, names)

    async def stream(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`, in chunks of about a megabyte.

        Raises FileNotFoundError when there is no such blob.
        """
        if start == end:
            return
        found = await obstore.get_async(self._store, _key(sha256), options={"range": (start, end)})
        async for chunk in found.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)


@dataclass
class Incoming:
    """Bytes being written and hashed; a context manager that leaves nothing behind."""

    blobs: Blobs
    path: Path
    size: int = 0
    _file: BinaryIO | None = None
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def __enter__(self) -> Incoming:
        self._file = self.path.open("xb")
        return self

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        assert self._file is not None
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> Blob:
        """Bring what was written to disk, where `path` can be read; returns what it is."""
        assert self._file is not None
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return Blob(sha256=self._digest.hexdigest(), bytes=self.size)

    def keep(self) -> Blob:
        """Move the bytes to where they stay."""
        blob = self.finish()
        self.blobs._put(self.path, blob.sha256)
        return blob

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)


def _key(sha256: str) -> str:
    return f"sha256/{sha256[:2]}/{sha256}"
