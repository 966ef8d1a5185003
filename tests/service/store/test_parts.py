"""Files that arrive in parts, however many send them at once."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from intrafusion.errors import ErrorCode, IntraFusionError
from service.settings import Settings
from service.store import partial_uploads
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.parts import Parts, parts_in
from tests.service.conftest import ON_BOTH_DATABASES, ON_BOTH_STORES

CONTENT = random.Random(0).randbytes(50_000)
ID = "upload_1"


@pytest.fixture
def hosts(settings: Settings, database: Database, tmp_path: Path) -> Iterator[list[Parts]]:
    """Two hosts that share the database and the blob store, and have begun an upload."""
    databases = [Database(settings.database) for _ in range(2)]
    hosts = [
        parts_in(Blobs(settings.blobs, spool=tmp_path / f"host {number}"), database)
        for number, database in enumerate(databases)
    ]
    with database.write() as session:
        partial_uploads.add_partial(
            session, id=ID, tenant="t", kind="model", name=None, length=len(CONTENT)
        )
    hosts[0].begin(ID)
    yield hosts
    for each in databases:
        each.close()


def send(parts: Parts, seed: int) -> None:
    """Send what has not arrived, in parts of any size, and go on where others were first."""
    sizes = random.Random(seed)
    while (end := parts.arrived(ID)) < len(CONTENT):
        try:
            part = parts.append(ID, end)
            try:
                for _ in range(2):
                    size = sizes.randint(1, 8_000)
                    part.write(CONTENT[end : end + size])
                    end += size
            finally:
                part.close()
        except IntraFusionError as error:
            if error.code is not ErrorCode.CONFLICT:
                raise


def whole(parts: Parts) -> str:
    """The SHA-256 of what has arrived."""
    with parts.whole(ID) as incoming:
        return incoming.finish().sha256


@ON_BOTH_DATABASES
@ON_BOTH_STORES
def test_hosts_that_send_the_same_upload_at_once_do_not_spoil_it(hosts: list[Parts]) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, hosts * 2, range(4)))
    assert [parts.arrived(ID) for parts in hosts] == [len(CONTENT)] * 2
    assert whole(hosts[0]) == hashlib.sha256(CONTENT).hexdigest()


@ON_BOTH_DATABASES
@pytest.mark.parametrize("store", ["objects"], indirect=True)
def test_of_two_parts_at_the_same_place_the_first_counts(hosts: list[Parts], blobs: Blobs) -> None:
    first, second = (parts.append(ID, 0) for parts in hosts)
    first.write(CONTENT[:100])
    with pytest.raises(IntraFusionError) as refusal:
        second.write(CONTENT[:70])
    assert refusal.value.code is ErrorCode.CONFLICT
    hosts[1].append(ID, 100).write(CONTENT[100:])
    assert whole(hosts[0]) == hashlib.sha256(CONTENT).hexdigest()
    assert len(blobs.names("uploads")) == 2


@ON_BOTH_STORES
def test_a_file_in_a_folder_takes_one_part_at_a_time(hosts: list[Parts], blobs: Blobs) -> None:
    part = hosts[0].append(ID, 0)
    part.write(CONTENT[:10])
    if blobs.in_folder:
        with pytest.raises(IntraFusionError, match="Another request"):
            hosts[1].append(ID, 10)
    part.close()
    hosts[1].append(ID, 10).close()
    with pytest.raises(IntraFusionError, match="10 bytes have arrived"):
        hosts[1].append(ID, 9)


@ON_BOTH_DATABASES
@pytest.mark.parametrize("store", ["objects"], indirect=True)
def test_nothing_stays_of_a_part_of_an_upload_that_was_given_up(
    hosts: list[Parts], blobs: Blobs, database: Database
) -> None:
    late = hosts[1].append(ID, 0)
    late.write(CONTENT[:10])
    with database.write() as session:
        partial_uploads.delete_partial(session, ID)
    hosts[0].remove(ID)
    with pytest.raises(IntraFusionError) as refusal:
        late.write(CONTENT[10:])
    assert refusal.value.code is ErrorCode.NOT_FOUND
    assert blobs.names() == []
