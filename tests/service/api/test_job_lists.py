"""Finding jobs, repeating them and deleting them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.store import jobs
from service.store.database import Database
from service.store.records import ArtifactRecord
from tests.service.conftest import MODEL, ON_BOTH_DATABASES, queued, safetensors, settle, upload

pytestmark = ON_BOTH_DATABASES


def found(api: TestClient, **params: Any) -> list[str]:
    answer = api.get("/v1/jobs", params=params)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


def test_jobs_are_found_by_state_model_and_method(api: TestClient, database: Database) -> None:
    other = upload(api, "models", safetensors(weight=[9.0]))
    first = queued(api)
    second = queued(api, model=other)
    third = queued(api, spec={"method": "prune"})
    settle(database, first)
    api.post(f"/v1/jobs/{second}/cancel")
    assert found(api, status="succeeded") == [first]
    assert sorted(found(api, status=["succeeded", "cancelled"])) == sorted([first, second])
    assert found(api, model=other) == [second]
    assert found(api, method="prune") == [third]
    assert found(api, method="prune", status="succeeded") == []


@pytest.mark.parametrize("value", ["abc", "quotes \" and ' and ]", "ünïcode", "a:b", ""])
def test_jobs_are_found_by_their_labels(api: TestClient, value: str) -> None:
    job = queued(api, metadata={"commit": value, "branch": "main"})
    queued(api, metadata={"commit": "other", "branch": "main"})
    queued(api)
    assert found(api, metadata=f"commit:{value}") == [job]
    assert found(api, metadata=[f"commit:{value}", "branch:main"]) == [job]
    assert found(api, metadata=[f"commit:{value}", "branch:side"]) == []
    assert len(found(api, metadata="branch:main")) == 2


def test_a_label_without_a_value_is_refused(api: TestClient) -> None:
    problem = api.get("/v1/jobs", params={"metadata": "commit"}).json()
    assert problem["code"] == "bad_request"
    assert "name:value" in problem["hint"]


def test_jobs_are_found_by_when_they_were_queued(api: TestClient) -> None:
    first = queued(api)
    time.sleep(0.01)
    second = queued(api)
    moment = api.get(f"/v1/jobs/{second}").json()["queued_at"]
    assert found(api, queued_after=moment) == [second]
    assert found(api, queued_before=moment) == [first]
    assert api.get("/v1/jobs", params={"queued_before": "0.5"}).status_code == 400
    answer = api.get("/v1/jobs", params={"queued_after": "2026-01-01T00:00:00"})
    assert answer.json()["code"] == "bad_request"  # of which time zone?


def test_a_filter_holds_over_pages(api: TestClient) -> None:
    wanted = []
    for number in range(6):
        job = queued(api, metadata={"even": str(number % 2 == 0)})
        wanted += [job] if number % 2 == 0 else []
    page = api.get("/v1/jobs", params={"limit": 2, "metadata": "even:True"}).json()
    rest = found(api, limit=2, metadata="even:True", cursor=page["next"])
    assert sorted([job["id"] for job in page["data"]] + rest) == sorted(wanted)


def test_a_retry_is_a_new_job_with_the_same_request(api: TestClient, database: Database) -> None:
    first = queued(api, metadata={"commit": "abc"}, spec={"sparsity": 0.25})
    refusal = api.post(f"/v1/jobs/{first}/retry")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "conflict")
    settle(
        database,
        first,
        outcome="failed",
        error={"title": "", "status": 500, "code": "internal", "detail": ""},
    )
    answer = api.post(f"/v1/jobs/{first}/retry", headers={"Idempotency-Key": "once"})
    assert answer.status_code == 202
    again = answer.json()
    assert again["id"] != first
    assert answer.headers["Location"] == f"/v1/jobs/{again['id']}"
    assert (again["status"], again["retry_of"]) == ("queued", first)
    assert again["metadata"] == {"commit": "abc"}
    assert again["spec"]["sparsity"] == 0.25
    assert again["error"] is None
    repeated = api.post(f"/v1/jobs/{first}/retry", headers={"Idempotency-Key": "once"})
    assert repeated.json()["id"] == again["id"]


def test_a_retry_of_a_job_whose_model_is_gone_says_so(api: TestClient, database: Database) -> None:
    job = queued(api)
    settle(database, job)
    model = api.get(f"/v1/jobs/{job}").json()["model"]
    assert api.delete(f"/v1/models/{model}").status_code == 204
    problem = api.post(f"/v1/jobs/{job}/retry").json()
    assert problem["code"] == "not_found"
    assert model in problem["detail"]


def test_a_deleted_job_is_gone_with_all_it_had(api: TestClient, database: Database) -> None:
    body = {"Idempotency-Key": "key"}
    job = queued(api, metadata={"commit": "abc"})
    refusal = api.delete(f"/v1/jobs/{job}")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "conflict")
    artifact = ArtifactRecord(job_id=job, name="a", sha256="1" * 64, bytes=1, media_type="x/y")
    settle(database, job, artifacts=[artifact])
    assert api.delete(f"/v1/jobs/{job}", headers=body).status_code == 204
    for path in ("", "/events", "/artifacts"):
        assert api.get(f"/v1/jobs/{job}{path}").status_code == 404
    assert found(api) == []
    assert api.delete(f"/v1/jobs/{job}").status_code == 404
    with database.read() as session:
        assert jobs.list_artifacts(session, job) == []


def test_an_accuracy_gate_needs_data_to_measure_it_on(api: TestClient) -> None:
    model = upload(api, "models", MODEL)
    body = {
        "model": model,
        "input_shapes": [[1, 3]],
        "architecture": {"name": "a/b"},
        "gates": {"max_accuracy_drop": 0.01},
    }
    problem = api.post("/v1/jobs", json=body).json()
    assert problem["code"] == "invalid_spec"
    assert "evaluation" in problem["detail"]
    misspelt = api.post("/v1/jobs", json=body | {"gates": {"max_byte": 1}}).json()
    assert (misspelt["code"], misspelt["hint"]) == ("unknown_field", "Did you mean 'max_bytes'?")
