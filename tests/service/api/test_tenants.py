"""No tenant sees, guesses, cancels, deletes or downloads another's things, at any address."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from service.keys import create_api_key, list_api_keys, revoke_api_key
from service.main import create_app
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.records import ArtifactRecord, Record
from tests.service.conftest import (
    DATASET,
    MODEL,
    ON_BOTH_DATABASES,
    queued,
    request_for,
    settle,
    upload,
)

PUBLIC = {("GET", "/healthz"), ("GET", "/readyz"), ("OPTIONS", "/v1/uploads")}
WELL_FORMED = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": "1",
    "Upload-Offset": "0",
    "Content-Type": "application/offset+octet-stream",
}
NOWHERE = {
    "job_id": "job_no",
    "model_id": "model_no",
    "dataset_id": "data_no",
    "upload_id": "upload_no",
    "name": "x",
}
Operation = tuple[str, str]

pytestmark = ON_BOTH_DATABASES


@pytest.fixture
def keys(database: Database) -> dict[str, str]:
    """A key of each of two tenants."""
    return {
        tenant: create_api_key(database=database, name="ci", tenant=tenant)[0]
        for tenant in ("anna", "boris")
    }


class Tenants:
    """Two tenants' clients of one server, and one client without a key."""

    def __init__(self, app: TestClient, keys: dict[str, str]) -> None:
        self.nobody = app
        self.anna, self.boris = (
            TestClient(app.app, headers={"Authorization": f"Bearer {keys[name]}"})
            for name in ("anna", "boris")
        )


@pytest.fixture
def tenants(api: TestClient, keys: dict[str, str]) -> Tenants:
    return Tenants(api, keys)


@pytest.fixture
def owned(tenants: Tenants, database: Database, blobs: Blobs) -> dict[str, str]:
    """What anna has: an ended job with a file, a waiting one, a model and a dataset."""
    done = queued(tenants.anna, metadata={"secret": "anna's"})
    blob = blobs.adopt(io.BytesIO(b"anna's network"))
    files = [
        ArtifactRecord(job_id=done, name=name, sha256=blob.sha256, bytes=14, media_type="x/y")
        for name in ("model.pt", "report.json")
    ]
    settle(database, done, artifacts=files)
    return {
        "job_id": done,
        "waiting": queued(tenants.anna),
        "model_id": upload(tenants.anna, "models", MODEL),
        "dataset_id": upload(tenants.anna, "datasets", DATASET),
        "upload_id": str(tenants.anna.post("/v1/uploads", headers=WELL_FORMED).json()["id"]),
        "name": "model.pt",
    }


def operations(api: httpx.Client) -> Iterator[Operation]:
    """Every address and method that the server says it has."""
    for path, methods in api.get("/openapi.json").json()["paths"].items():
        for method in methods:
            yield method.upper(), path


def test_without_a_key_nothing_is_answered(tenants: Tenants, owned: dict[str, str]) -> None:
    asked = 0
    for method, path in operations(tenants.nobody):
        if (method, path) in PUBLIC:
            continue
        asked += 1
        answer = tenants.nobody.request(method, path.format(**owned), headers=WELL_FORMED)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        if method != "HEAD":
            assert answer.json()["code"] == "unauthenticated"
            assert "intrafusion keys create" in answer.json()["hint"]
    assert asked > 15


def test_anothers_things_are_not_there_at_any_address(
    tenants: Tenants, owned: dict[str, str]
) -> None:
    asked = 0
    for method, path in operations(tenants.nobody):
        if not re.search(r"{(job|model|dataset|upload)_id}", path):
            continue
        asked += 1
        for job in (owned["job_id"], owned["waiting"]):
            where = path.format(**(owned | {"job_id": job}))
            answer = tenants.boris.request(method, where, headers=WELL_FORMED)
            assert answer.status_code == 404, (method, path, answer.text)
            nowhere = path.format(**NOWHERE)
            unknown = tenants.boris.request(method, nowhere, headers=WELL_FORMED)
            assert unknown.status_code == 404
            if method != "HEAD":  # the answer does not even tell that there is such a thing
                assert answer.json()["title"] == unknown.json()["title"]
                assert answer.json()["code"] == unknown.json()["code"]
        own = tenants.anna.request("GET", f"/v1/jobs/{owned['job_id']}")
        assert own.json()["status"] == "succeeded"  # boris changed nothing
    assert asked >= 12
    for path in ("/v1/jobs", "/v1/models", "/v1/datasets"):
        assert tenants.boris.get(path).json()["data"] == []
        assert tenants.anna.get(path).json()["data"] != []
    assert tenants.anna.get(f"/v1/jobs/{owned['waiting']}").json()["status"] == "queued"


def test_another_tenants_uploads_cannot_be_used(tenants: Tenants, owned: dict[str, str]) -> None:
    fields = {"model": "model_id", "calibration": "dataset_id", "evaluation": "dataset_id"}
    for field, name in fields.items():
        body = request_for(tenants.boris) | {field: owned[name]}
        assert tenants.boris.post("/v1/jobs", json=body).json()["code"] == "not_found"


def test_the_same_bytes_and_keys_are_apart(tenants: Tenants, owned: dict[str, str]) -> None:
    answer = tenants.boris.post("/v1/models", content=MODEL)
    assert answer.status_code == 201  # not 200: whether anna has them is not told
    assert answer.json()["id"] != owned["model_id"]
    found = tenants.boris.get("/v1/models", params={"sha256": answer.json()["sha256"]}).json()
    assert len(found["data"]) == 1
    made = {
        client.post("/v1/jobs", json=request_for(client), headers={"Idempotency-Key": "k"}).json()[
            "id"
        ]
        for client in (tenants.anna, tenants.boris)
    }
    assert len(made) == 2
    tenants.boris.delete(f"/v1/models/{answer.json()['id']}")
    assert tenants.anna.get(f"/v1/models/{owned['model_id']}").status_code == 200


def test_cursors_and_labels_show_nothing_of_another(
    tenants: Tenants, owned: dict[str, str]
) -> None:
    queued(tenants.boris)
    for params in ({"cursor": "job_z"}, {"metadata": "secret:anna's"}, {"status": "succeeded"}):
        listed = tenants.boris.get("/v1/jobs", params=params).json()["data"]
        assert not {job["id"] for job in listed} & set(owned.values())


@pytest.mark.parametrize(
    "header", ["Bearer ifk_wrong", "Bearer ", "Basic YTpi", "ifk_wrong", "Bearer \xff"]
)
def test_a_wrong_key_opens_nothing(tenants: Tenants, header: str) -> None:
    answer = tenants.nobody.get("/v1/jobs", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_a_revoked_key_opens_nothing_and_revoking_all_opens_nothing(
    tenants: Tenants, database: Database
) -> None:
    for key in list_api_keys(database=database):
        revoke_api_key(database=database, id=key.id)
    for client in (tenants.anna, tenants.boris, tenants.nobody):
        assert client.get("/v1/jobs").status_code == 401


def test_no_key_is_stored_as_it_is(keys: dict[str, str], database: Database) -> None:
    with database.read() as session:
        rows = [session.execute(table.select()).all() for table in Record.metadata.sorted_tables]
    dump = repr(rows)
    assert "anna" in dump
    for key in keys.values():
        assert key not in dump
        assert len(key) > 30


def test_before_the_first_key_a_server_of_ones_own_asks_for_none(
    settings: Settings, api: TestClient, database: Database
) -> None:
    job = queued(api)
    key, _ = create_api_key(database=database, name="ci", tenant="default")
    assert api.get(f"/v1/jobs/{job}").status_code == 401
    headers = {"Authorization": f"Bearer {key}"}
    assert api.get(f"/v1/jobs/{job}", headers=headers).status_code == 200
    del settings


def test_a_server_for_others_asks_for_keys_from_the_start(settings: Settings) -> None:
    strict = settings.model_copy(update={"keys": "required"})
    with TestClient(create_app(strict)) as api:
        assert api.get("/v1/jobs").status_code == 401
        assert api.get("/healthz").status_code == 200


def test_a_key_in_a_cookie_reads_and_changes_nothing(
    tenants: Tenants, keys: dict[str, str], owned: dict[str, str]
) -> None:
    cookie = {"Cookie": f"intrafusion_key={keys['anna']}"}
    path = f"/v1/jobs/{owned['waiting']}"
    assert tenants.nobody.get(path, headers=cookie).status_code == 200
    assert tenants.nobody.post(f"{path}/cancel", headers=cookie).status_code == 401


def limited(settings: Settings, **quotas: Any) -> TestClient:
    return TestClient(create_app(settings.model_copy(update=quotas)))


def test_requests_are_counted_by_tenant(settings: Settings, keys: dict[str, str]) -> None:
    with limited(settings, quota_requests_per_minute=3) as app:
        anna = {"Authorization": f"Bearer {keys['anna']}"}
        left = []
        for _ in range(3):
            answer = app.get("/v1/jobs", headers=anna)
            assert answer.status_code == 200
            assert answer.headers["RateLimit-Policy"] == '"requests";q=3;w=60'
            left += re.findall(r"r=(\d+);t=\d+", answer.headers["RateLimit"])
        assert left == ["2", "1", "0"]
        refusal = app.get("/v1/jobs", headers=anna)
        assert (refusal.status_code, refusal.json()["code"]) == (429, "too_many_requests")
        assert 1 <= int(refusal.headers["Retry-After"]) <= 60
        assert '"requests";r=0' in refusal.headers["RateLimit"]
        assert app.get("/healthz").status_code == 200
        boris = app.get("/v1/jobs", headers={"Authorization": f"Bearer {keys['boris']}"})
        assert boris.status_code == 200


def test_only_so_many_jobs_may_wait(settings: Settings) -> None:
    with limited(settings, quota_queued_jobs=2) as app:
        jobs = [queued(app), queued(app)]
        refusal = app.post("/v1/jobs", json=request_for(app))
        assert (refusal.status_code, refusal.json()["code"]) == (429, "job_quota")
        assert refusal.headers["Retry-After"]
        app.post(f"/v1/jobs/{jobs[0]}/cancel")
        queued(app)


def test_only_so_many_bytes_may_be_kept(settings: Settings) -> None:
    with limited(settings, quota_stored_bytes=len(MODEL) + len(DATASET) - 1) as app:
        model = upload(app, "models", MODEL)
        refusal = app.post("/v1/datasets", content=DATASET)
        assert (refusal.status_code, refusal.json()["code"]) == (413, "storage_quota")
        assert refusal.json()["details"]["stored"] == len(MODEL)
        assert upload(app, "models", MODEL) == model  # takes no more room
        app.delete(f"/v1/models/{model}")
        upload(app, "datasets", DATASET)
