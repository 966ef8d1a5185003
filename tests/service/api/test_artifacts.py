from __future__ import annotations

import base64
import hashlib
import io
import json

import httpx
import pytest
from fastapi.testclient import TestClient

from service.api.artifacts import byte_range
from service.main import create_app
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.records import ArtifactRecord
from tests.service.conftest import queued, settle

CONTENT = bytes(range(256)) * 8
REPORT = json.dumps({"a": 1}).encode()


def finish(api: TestClient, database: Database, blobs: Blobs, **files: bytes) -> str:
    """A job that succeeded with these files."""
    job = queued(api)
    artifacts = []
    for name, content in files.items():
        blob = blobs.adopt(io.BytesIO(content))
        media_type = "application/json" if name == "report.json" else "application/octet-stream"
        artifacts.append(
            ArtifactRecord(
                job_id=job,
                name=name,
                sha256=blob.sha256,
                bytes=blob.bytes,
                media_type=media_type,
            )
        )
    settle(database, job, artifacts=artifacts)
    return job


@pytest.fixture
def job(api: TestClient, database: Database, blobs: Blobs) -> str:
    return finish(api, database, blobs, **{"model.pt": CONTENT, "report.json": REPORT})


def test_the_list_tells_names_sizes_and_digests(api: TestClient, job: str) -> None:
    assert api.get(f"/v1/jobs/{job}/artifacts").json() == {
        "data": [
            {
                "name": name,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "media_type": media_type,
            }
            for name, content, media_type in [
                ("model.pt", CONTENT, "application/octet-stream"),
                ("report.json", REPORT, "application/json"),
            ]
        ],
        "next": None,
    }


def test_a_dry_run_has_a_plan_and_no_report(
    api: TestClient, database: Database, blobs: Blobs
) -> None:
    job = finish(api, database, blobs, **{"plan.json": b"{}"})
    plan = api.get(f"/v1/jobs/{job}/plan")
    assert (plan.status_code, plan.content) == (200, b"{}")
    missing = api.get(f"/v1/jobs/{job}/report")
    assert missing.status_code == 404
    assert "plan.json" in missing.json()["hint"]
    assert api.get(f"/v1/jobs/{queued(api)}/plan").json()["code"] == "not_finished"


def test_a_whole_file_comes_with_its_digest(api: TestClient, job: str) -> None:
    answer = api.get(f"/v1/jobs/{job}/artifacts/model.pt")
    assert answer.status_code == 200
    assert answer.content == CONTENT
    digest = hashlib.sha256(CONTENT)
    assert answer.headers["ETag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["Repr-Digest"] == (
        f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    )
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert 'filename="model.pt"' in answer.headers["Content-Disposition"]


def test_head_tells_the_same_without_the_bytes(api: TestClient, job: str) -> None:
    whole = api.get(f"/v1/jobs/{job}/artifacts/model.pt")
    head = api.head(f"/v1/jobs/{job}/artifacts/model.pt")
    assert head.status_code == 200
    assert head.content == b""
    for name in ("ETag", "Repr-Digest", "Content-Length", "Accept-Ranges", "Content-Type"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=2000-", 2000, 2048),
        ("bytes=-10", 2038, 2048),
        ("bytes=-9999", 0, 2048),
        ("bytes=2000-999999", 2000, 2048),
    ],
)
def test_a_range_is_that_part(api: TestClient, job: str, asked: str, start: int, end: int) -> None:
    answer = api.get(f"/v1/jobs/{job}/artifacts/model.pt", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=2048-", "bytes=-0"])
def test_a_range_outside_is_refused(api: TestClient, job: str, asked: str) -> None:
    answer = api.get(f"/v1/jobs/{job}/artifacts/model.pt", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.json()["code"] == "range_not_satisfiable"
    assert answer.headers["Content-Range"] == "bytes */2048"


@pytest.mark.parametrize("asked", ["bytes=a-b", "lines=1-2", "bytes=5-2", "bytes=0-1,3-4", "-"])
def test_a_range_that_is_none_is_ignored(api: TestClient, job: str, asked: str) -> None:
    answer = api.get(f"/v1/jobs/{job}/artifacts/model.pt", headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.content == CONTENT


def test_a_download_goes_on_only_with_the_same_file(api: TestClient, job: str) -> None:
    address = f"/v1/jobs/{job}/artifacts/model.pt"
    etag = api.head(address).headers["ETag"]
    same = api.get(address, headers={"Range": "bytes=2000-", "If-Range": etag})
    assert (same.status_code, same.content) == (206, CONTENT[2000:])
    other = api.get(address, headers={"Range": "bytes=2000-", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, CONTENT)


@pytest.mark.parametrize("tags", ["{etag}", 'W/{etag}, "x"', "*"])
def test_a_file_one_has_is_not_sent_again(api: TestClient, job: str, tags: str) -> None:
    address = f"/v1/jobs/{job}/artifacts/model.pt"
    etag = api.head(address).headers["ETag"]
    answer = api.get(address, headers={"If-None-Match": tags.format(etag=etag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == etag


def test_the_report_is_json(api: TestClient, job: str) -> None:
    answer = api.get(f"/v1/jobs/{job}/report")
    assert answer.json() == {"a": 1}
    assert answer.headers["Content-Type"] == "application/json"


def test_an_empty_file_is_sent(api: TestClient, database: Database, blobs: Blobs) -> None:
    job = finish(api, database, blobs, empty=b"")
    answer = api.get(f"/v1/jobs/{job}/artifacts/empty")
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_unfinished_job_has_no_files_yet(api: TestClient) -> None:
    job = queued(api)
    assert api.get(f"/v1/jobs/{job}/artifacts").json() == {"data": [], "next": None}
    for path in ("report", "artifacts/model.pt"):
        answer = api.get(f"/v1/jobs/{job}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_finished")


def test_a_file_the_job_did_not_make_is_not_found(api: TestClient, job: str) -> None:
    for name in ("other", "..%2F..%2Fintrafusion.db"):
        answer = api.get(f"/v1/jobs/{job}/artifacts/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "model.pt" in api.get(f"/v1/jobs/{job}/artifacts/other").json()["hint"]


def test_no_range_of_an_empty_file() -> None:
    assert byte_range(None, 0) is None


def test_downloads_may_be_led_to_an_object_store(
    settings: Settings, object_store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.items():
        monkeypatch.setenv(name, value)
    linked = settings.model_copy(update={"blob_url": "s3://bucket/linked", "link_downloads": True})
    database = Database(linked.database)
    with TestClient(create_app(linked), follow_redirects=False) as api:
        stored = Blobs(linked.blobs, spool=linked.home / "spool")
        job = finish(api, database, stored, **{"model.pt": CONTENT, "report.json": REPORT})
        answer = api.get(f"/v1/jobs/{job}/artifacts/model.pt")
        assert answer.status_code == 307
        assert httpx.get(answer.headers["Location"]).content == CONTENT
        assert api.get(f"/v1/jobs/{job}/report").json() == {"a": 1}
        stat = api.head(f"/v1/jobs/{job}/artifacts/model.pt")
        assert stat.headers["Content-Length"] == str(len(CONTENT))
    database.close()
