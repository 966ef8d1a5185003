"""Resumable uploads: with the tus project's own client, and byte by byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from tusclient.client import TusClient

from intrafusion.api import Model
from intrafusion.client import AsyncClient, Client, uploading
from service.keys import create_api_key
from service.partial_uploads import remove_stale
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database, now
from service.store.partial_uploads import claim_finish, delete_partial, release_finish
from service.store.parts import parts_in
from service.store.records import PartialUploadRecord
from tests.breaking import breaking
from tests.service.conftest import DATASET, MODEL, ON_BOTH_STORES, safetensors

TUS = {"Tus-Resumable": "1.0.0"}
PART = TUS | {"Content-Type": "application/offset+octet-stream"}
LARGE = safetensors(weight=[0.5] * 100_000)


def begin(api: httpx.Client, length: int, kind: str = "model") -> str:
    pairs = {"kind": kind, "filename": "net.safetensors"}
    metadata = ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())
    headers = TUS | {"Upload-Length": str(length), "Upload-Metadata": metadata}
    answer = api.post("/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    return str(answer.headers["Location"])


def send(api: httpx.Client, where: str, offset: int, content: bytes) -> httpx.Response:
    return api.patch(where, content=content, headers=PART | {"Upload-Offset": str(offset)})


def test_the_tus_client_uploads_in_parts(live: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(LARGE)
    client = TusClient(f"{live.base_url}/v1/uploads")
    metadata = {"kind": "model", "filename": "net.safetensors"}
    uploader = client.uploader(str(path), chunk_size=70_000, metadata=metadata)
    uploader.upload(stop_at=200_000)
    where = uploader.url
    assert int(live.head(where, headers=TUS).headers["Upload-Offset"]) == 200_000
    resumed = client.uploader(str(path), chunk_size=70_000, url=where)
    resumed.upload()
    found = live.get(urlsplit(where).path).json()
    assert found["offset"] == found["length"] == len(LARGE)
    model = live.get(f"/v1/models/{found['result']}").json()
    assert model["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert model["name"] == "net.safetensors"


@ON_BOTH_STORES
def test_a_broken_connection_keeps_what_arrived(live: httpx.Client, blobs: Blobs) -> None:
    where = begin(live, len(LARGE))
    address = urlsplit(str(live.base_url))
    head = (
        f"PATCH {where} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        f"Content-Type: {PART['Content-Type']}\r\nContent-Length: {len(LARGE)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 0)) as broken:
        broken.sendall(head.encode() + LARGE[:100_000])
    arrived = 0
    for _ in range(200):
        arrived = int(live.head(where, headers=TUS).headers["Upload-Offset"])
        if arrived:
            break
    assert arrived == 100_000
    done = send(live, where, arrived, LARGE[arrived:])
    assert done.status_code == 204, done.text
    assert done.headers["Content-Location"].startswith("/v1/models/model_")
    assert [name.rpartition("/")[2] for name in blobs.names()] == [
        hashlib.sha256(LARGE).hexdigest()
    ]


@ON_BOTH_STORES
def test_samples_arrive_in_parts_too(api: TestClient) -> None:
    where = begin(api, len(DATASET), kind="dataset")
    answer = send(api, where, 0, DATASET[:50])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "50")
    assert "Content-Location" not in answer.headers
    done = send(api, where, 50, DATASET[50:])
    assert api.get(done.headers["Content-Location"]).json()["kind"] == "npz"
    again = send(api, where, len(DATASET), b"")  # the client lost the answer
    assert again.headers["Content-Location"] == done.headers["Content-Location"]


@ON_BOTH_STORES
def test_a_part_at_the_wrong_place_is_refused(api: TestClient) -> None:
    where = begin(api, len(MODEL))
    send(api, where, 0, MODEL[:10])
    refusal = send(api, where, 5, MODEL[5:])
    assert (refusal.status_code, refusal.json()["code"]) == (409, "conflict")
    assert refusal.json()["details"]["offset"] == 10
    beyond = send(api, where, 10, MODEL[10:] + b"x")
    assert (beyond.status_code, beyond.json()["code"]) == (413, "upload_too_large")
    assert int(api.head(where, headers=TUS).headers["Upload-Offset"]) <= len(MODEL)


@ON_BOTH_STORES
def test_what_is_no_model_is_refused_at_its_end_and_gone(api: TestClient, blobs: Blobs) -> None:
    where = begin(api, 9)
    refusal = send(api, where, 0, b"\x80\x04 pickle"[:9])
    assert (refusal.status_code, refusal.json()["code"]) == (415, "unsafe_pickle")
    assert api.head(where, headers=TUS).status_code == 404
    assert blobs.names() == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Upload-Length": "5"}, 412, "tus_version"),
        (TUS | {"Upload-Length": "9999999999"}, 413, "upload_too_large"),
        (TUS | {"Upload-Length": "-1"}, 400, "bad_request"),
        (TUS, 400, "bad_request"),
        (TUS | {"Upload-Length": "5", "Upload-Metadata": "kind bW92aWU="}, 400, "bad_request"),
        (TUS | {"Upload-Length": "5", "Upload-Metadata": "kind !"}, 400, "bad_request"),
    ],
)
def test_what_cannot_be_begun_is_refused(
    api: TestClient, headers: dict[str, str], status: int, code: str
) -> None:
    answer = api.post("/v1/uploads", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_body_of_another_kind_is_no_part(api: TestClient) -> None:
    where = begin(api, len(MODEL))
    answer = api.patch(where, content=MODEL, headers=TUS | {"Upload-Offset": "0"})
    assert (answer.status_code, answer.json()["code"]) == (415, "not_a_part")


@ON_BOTH_STORES
def test_an_upload_is_given_up(api: TestClient, blobs: Blobs) -> None:
    where = begin(api, len(MODEL))
    send(api, where, 0, MODEL[:10])
    assert api.delete(where, headers=TUS).status_code == 204
    assert api.get(where).status_code == 404
    assert blobs.names() == []


@ON_BOTH_STORES
def test_old_unfinished_uploads_go(
    api: TestClient, database: Database, blobs: Blobs, settings: Settings
) -> None:
    old, young = begin(api, 10), begin(api, 10)
    moment = now() - timedelta(hours=49)
    with database.write() as session:
        session.execute(
            update(PartialUploadRecord)
            .where(PartialUploadRecord.id == old.rpartition("/")[2])
            .values(created_at=moment)
        )
    assert remove_stale(database=database, parts=parts_in(blobs, database), settings=settings) == 1
    assert api.get(old).status_code == 404
    assert api.get(young).status_code == 200


@ON_BOTH_STORES
def test_parts_that_nobody_recorded_go_when_they_are_old(
    api: TestClient, database: Database, blobs: Blobs, settings: Settings
) -> None:
    where = begin(api, 10)
    send(api, where, 0, MODEL[:5])
    with database.write() as session:  # as if the process had been killed before it removed them
        delete_partial(session, where.rpartition("/")[2])
    assert len(blobs.names()) == 1
    parts = parts_in(blobs, database)
    remove_stale(database=database, parts=parts, settings=settings)
    assert len(blobs.names()) == 1
    at_once = settings.model_copy(update={"partial_hours": 1e-9})
    remove_stale(database=database, parts=parts, settings=at_once)
    assert blobs.names() == []


@ON_BOTH_STORES
def test_a_file_is_checked_by_one_request_at_a_time(api: TestClient, database: Database) -> None:
    where = begin(api, len(MODEL))
    with database.write() as session:
        assert claim_finish(session, where.rpartition("/")[2], seconds=60)
    answer = send(api, where, 0, MODEL)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert int(api.head(where, headers=TUS).headers["Upload-Offset"]) == len(MODEL)
    with database.write() as session:
        release_finish(session, where.rpartition("/")[2])
    done = send(api, where, len(MODEL), b"")
    assert done.headers["Content-Location"].startswith("/v1/models/model_")


def test_the_server_says_what_it_can(api: TestClient) -> None:
    answer = api.options("/v1/uploads")
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert "creation" in answer.headers["Tus-Extension"]


def test_another_tenants_upload_cannot_be_touched(api: TestClient, database: Database) -> None:
    keys = [create_api_key(database=database, name="k", tenant=name)[0] for name in ("a", "b")]
    mine, other = (TestClient(api.app, headers={"Authorization": f"Bearer {key}"}) for key in keys)
    where = begin(mine, len(MODEL))
    assert send(other, where, 0, MODEL).status_code == 404
    assert other.head(where, headers=TUS).status_code == 404
    assert other.delete(where, headers=TUS).status_code == 404
    assert send(api, where, 0, MODEL).status_code == 401
    assert int(mine.head(where, headers=TUS).headers["Upload-Offset"]) == 0


def test_a_host_without_the_parts_says_so_and_begins_no_others(
    api: TestClient, blobs: Blobs
) -> None:
    where = begin(api, len(MODEL))
    blobs.partial(where.rpartition("/")[2]).unlink()
    for answer in (api.get(where), send(api, where, 0, MODEL)):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert api.delete(where, headers=TUS).status_code == 204


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_client_goes_on_with_a_large_file_where_it_broke_off(
    kind: type[Client] | type[AsyncClient],
    live: httpx.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploading, "LARGE", len(LARGE))
    path = tmp_path / "net.safetensors"
    path.write_bytes(LARGE)
    passed: list[int] = []
    with breaking([str(live.base_url)], passed, 150_000, 150_000) as url:
        if kind is Client:
            with Client(url) as client:
                model = client.upload_model(path)
        else:
            model = asyncio.run(upload_asynchronously(url, path))
    assert model.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert model.name == "net.safetensors"
    assert len(passed) >= 3  # connections
    assert sum(passed) < 1.4 * len(LARGE)  # from the beginning each time it would be 1.75


async def upload_asynchronously(url: str, path: Path) -> Model:
    async with AsyncClient(url) as client:
        return await client.upload_model(path)


def test_the_client_waits_while_another_request_checks_a_large_file(
    live: httpx.Client, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "LARGE", len(LARGE))
    path = tmp_path / "net.safetensors"
    path.write_bytes(LARGE)

    def claim() -> None:
        """As soon as there is an upload, as if a host died that was checking it."""
        upload = None
        while upload is None:
            with database.read() as session:
                upload = session.scalar(select(PartialUploadRecord.id))
        with database.write() as session:
            assert claim_finish(session, upload, seconds=3)

    with breaking([str(live.base_url)], [], 150_000) as url, ThreadPoolExecutor(1) as pool:
        claimed = pool.submit(claim)
        with Client(url, patience=1) as client:
            began = time.monotonic()
            model = client.upload_model(path)
    claimed.result()
    assert model.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert time.monotonic() - began > 2
