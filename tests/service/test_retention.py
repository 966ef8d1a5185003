"""What is kept, what is let go, and when."""

from __future__ import annotations

import io
import os
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service.retention import collect_orphans, expire_records
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database, now
from service.store.records import ArtifactRecord, DatasetRecord, JobRecord, ModelRecord, Record
from tests.service.conftest import (
    DATASET,
    MODEL,
    ON_BOTH_DATABASES,
    queued,
    running,
    safetensors,
    settle,
    stored_files,
    upload,
)

pytestmark = ON_BOTH_DATABASES


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"retention_days": 30.0})


def age(database: Database, table: type[Record], days: float, **columns: str) -> None:
    moment = now() - timedelta(days=days)
    names = ("queued_at", "ended_at") if table is JobRecord else ("created_at",)
    with database.write() as session:
        session.execute(update(table).filter_by(**columns).values(dict.fromkeys(names, moment)))


def make_old(settings: Settings, hours: float) -> None:
    """Let all stored bytes be so old."""
    moment = now().timestamp() - hours * 3600
    for path in stored_files(settings):
        os.utime(path, (moment, moment))


def digests(settings: Settings) -> set[str]:
    return {path.name for path in stored_files(settings)}


def test_old_jobs_and_what_only_they_used_go(
    api: TestClient, database: Database, settings: Settings
) -> None:
    old, young, waiting = queued(api), queued(api), queued(api)
    unused = upload(api, "datasets", DATASET)
    fresh = upload(api, "models", safetensors(weight=[7.0]))
    for job in (old, young):
        settle(database, job)
    age(database, JobRecord, 31, id=old)
    with database.write() as session:
        queued_long_ago = now() - timedelta(days=99)
        session.execute(update(JobRecord).filter_by(id=waiting).values(queued_at=queued_long_ago))
    age(database, ModelRecord, 31)
    age(database, ModelRecord, 0, id=fresh)
    age(database, DatasetRecord, 31)
    assert expire_records(database=database, settings=settings) == 2  # the job, the dataset
    assert api.get(f"/v1/jobs/{old}").status_code == 404
    assert api.get(f"/v1/datasets/{unused}").status_code == 404
    for path in (f"/v1/jobs/{young}", f"/v1/jobs/{waiting}", f"/v1/models/{fresh}"):
        assert api.get(path).status_code == 200
    model = api.get(f"/v1/jobs/{young}").json()["model"]
    assert api.get(f"/v1/models/{model}").status_code == 200  # old, but in use


def test_without_a_retention_time_everything_stays(
    api: TestClient, database: Database, settings: Settings
) -> None:
    job = queued(api)
    settle(database, job)
    age(database, JobRecord, 9999)
    forever = settings.model_copy(update={"retention_days": None})
    assert expire_records(database=database, settings=forever) == 0
    assert api.get(f"/v1/jobs/{job}").status_code == 200


def test_only_old_bytes_without_a_record_are_removed(
    api: TestClient, database: Database, blobs: Blobs, settings: Settings
) -> None:
    upload(api, "models", MODEL)
    deleted = upload(api, "datasets", DATASET)
    job = queued(api)
    made = blobs.adopt(io.BytesIO(b"a result"))
    artifact = ArtifactRecord(
        job_id=job, name="a", sha256=made.sha256, bytes=made.bytes, media_type="x/y"
    )
    settle(database, job, artifacts=[artifact])
    assert api.delete(f"/v1/datasets/{deleted}").status_code == 204
    make_old(settings, 25)
    recent = blobs.adopt(io.BytesIO(b"its record is about to be written"))
    assert len(digests(settings)) == 4
    assert collect_orphans(database=database, blobs=blobs, settings=settings) == 1
    assert {made.sha256, recent.sha256} < digests(settings)
    assert len(digests(settings)) == 3
    assert api.get(f"/v1/jobs/{job}/artifacts/a").content == b"a result"
    api.delete(f"/v1/jobs/{job}")
    assert collect_orphans(database=database, blobs=blobs, settings=settings) == 1
    assert made.sha256 not in digests(settings)


def test_bytes_stored_again_as_they_are_to_be_removed_stay(
    blobs: Blobs, settings: Settings
) -> None:
    blob = blobs.adopt(io.BytesIO(b"content"))
    make_old(settings, 48)
    before = now() - timedelta(hours=24)
    assert list(blobs.list_old(before=before)) == [blob.sha256]
    blobs.adopt(io.BytesIO(b"content"))
    assert not blobs.remove_old(blob.sha256, before=before)
    assert digests(settings) == {blob.sha256}


def test_the_server_tidies_up_by_itself(
    settings: Settings, database: Database, blobs: Blobs
) -> None:
    orphan = blobs.adopt(io.BytesIO(b"nobody's"))
    make_old(settings, 48)
    with running(settings) as url, httpx.Client(base_url=url) as client:
        for _ in range(100):
            if orphan.sha256 not in digests(settings):
                break
            client.get("/healthz")
    assert digests(settings) == set()


def test_an_upload_that_is_read_cannot_be_deleted(api: TestClient, database: Database) -> None:
    dataset = upload(api, "datasets", DATASET)
    job = queued(api, calibration=dataset)
    model = api.get(f"/v1/jobs/{job}").json()["model"]
    for path in (f"/v1/models/{model}", f"/v1/datasets/{dataset}"):
        refusal = api.delete(path)
        assert (refusal.status_code, refusal.json()["code"]) == (409, "conflict")
        assert job in refusal.json()["detail"]
    settle(database, job)
    for path in (f"/v1/models/{model}", f"/v1/datasets/{dataset}"):
        assert api.delete(path).status_code == 204
        assert api.get(path).json()["code"] == "not_found"
        assert api.delete(path).status_code == 404
    assert api.get(f"/v1/jobs/{job}").json()["model"] == model
    assert upload(api, "models", MODEL) != model


def test_uploads_are_found_by_their_bytes_and_name(api: TestClient) -> None:
    first = upload(api, "models", MODEL, name="a.safetensors")
    second = upload(api, "models", safetensors(weight=[3.0]), name="b.safetensors")
    sha256 = api.get(f"/v1/models/{first}").json()["sha256"]

    def found(**params: Any) -> list[str]:
        return [entry["id"] for entry in api.get("/v1/models", params=params).json()["data"]]

    assert found(sha256=sha256) == [first]
    assert found(name="b.safetensors") == [second]
    assert found(sha256="0" * 64) == []
    assert api.get("/v1/models", params={"sha256": "x"}).json()["code"] == "bad_request"
