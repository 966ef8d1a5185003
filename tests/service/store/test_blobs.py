from __future__ import annotations

import asyncio
import hashlib
import io
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import now
from tests.service.conftest import ON_BOTH_STORES, stored_files


@pytest.fixture
def folder(settings: Settings) -> Blobs:
    """A store in a local folder."""
    return Blobs(settings.blobs, spool=settings.home / "unused")


def read(blobs: Blobs, sha256: str, start: int, end: int) -> bytes:
    async def collect() -> bytes:
        return b"".join([chunk async for chunk in blobs.stream(sha256, start, end)])

    return asyncio.run(collect())


@ON_BOTH_STORES
def test_bytes_come_back_by_their_sha256(blobs: Blobs) -> None:
    content = bytes(range(256)) * 20_000
    blob = blobs.adopt(io.BytesIO(content))
    assert blob.bytes == len(content)
    assert blob.sha256 == hashlib.sha256(content).hexdigest()
    assert read(blobs, blob.sha256, 0, len(content)) == content
    assert read(blobs, blob.sha256, 5, 300) == content[5:300]
    assert read(blobs, blob.sha256, 7, 7) == b""


@ON_BOTH_STORES
def test_nothing_stays_of_bytes_that_are_not_kept(blobs: Blobs, settings: Settings) -> None:
    def break_off() -> None:
        with blobs.begin() as incoming:
            incoming.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert [path for path in settings.home.rglob("*") if path.is_file()] == []


def test_the_same_bytes_are_stored_once(folder: Blobs, settings: Settings) -> None:
    assert folder.adopt(io.BytesIO(b"same")) == folder.adopt(io.BytesIO(b"same"))
    assert len(stored_files(settings)) == 1


def test_leftovers_of_a_killed_process_are_cleaned(folder: Blobs, settings: Settings) -> None:
    kept = folder.adopt(io.BytesIO(b"kept"))
    (settings.home / "blobs" / "incoming" / "leftover").write_bytes(b"half")
    folder.clean()
    assert [path.name for path in stored_files(settings)] == [kept.sha256]


@ON_BOTH_STORES
def test_fetch_puts_the_blob_in_place(blobs: Blobs, tmp_path: Path) -> None:
    blob = blobs.adopt(io.BytesIO(b"content"))
    blobs.fetch(blob.sha256, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"content"


@ON_BOTH_STORES
def test_a_missing_blob_is_file_not_found(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        blobs.fetch("0" * 64, tmp_path / "here")
    assert not (tmp_path / "here").exists()
    with pytest.raises(FileNotFoundError):
        read(blobs, "0" * 64, 0, 1)


@ON_BOTH_STORES
def test_a_store_that_is_well_answers(blobs: Blobs) -> None:
    blobs.ping()


@ON_BOTH_STORES
def test_old_blobs_are_listed_and_removed_and_new_ones_stay(blobs: Blobs) -> None:
    blob = blobs.adopt(io.BytesIO(b"content"))
    earlier, later = now() - timedelta(hours=1), now() + timedelta(hours=1)
    assert list(blobs.list_old(before=earlier)) == []
    assert list(blobs.list_old(before=later)) == [blob.sha256]
    assert not blobs.remove_old(blob.sha256, before=earlier)
    assert read(blobs, blob.sha256, 0, 7) == b"content"
    assert blobs.remove_old(blob.sha256, before=later)
    assert list(blobs.list_old(before=later)) == []


@ON_BOTH_STORES
def test_a_large_blob_goes_to_the_store_in_parts(blobs: Blobs, tmp_path: Path) -> None:
    content = bytes(range(256)) * 120_000  # more than one part of a multipart upload
    blob = blobs.adopt(io.BytesIO(content))
    blobs.fetch(blob.sha256, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == content


@ON_BOTH_STORES
def test_only_an_object_store_gives_links(blobs: Blobs) -> None:
    blob = blobs.adopt(io.BytesIO(b"content"))
    link = blobs.link(blob.sha256, seconds=60)
    if blobs.in_folder:
        assert link is None
    else:
        assert link is not None
        assert httpx.get(link, headers={"Range": "bytes=3-"}).content == b"tent"


def test_ping_says_when_the_folder_is_gone(folder: Blobs, settings: Settings) -> None:
    (settings.home / "blobs" / "incoming").rmdir()
    (settings.home / "blobs").rmdir()
    with pytest.raises(OSError, match="cannot be written"):
        folder.ping()
