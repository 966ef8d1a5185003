"""Everything in one form."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from service.settings import Settings
from tests.service.conftest import DATASET, MODEL, stored_files

FIELDS = {
    "spec": '{"sparsity": 0.25}',
    "architecture": '{"name": "a/b"}',
    "metadata": '{"commit": "abc"}',
    "gates": '{"max_accuracy_drop": 0.01, "max_bytes": 1000}',
}
FILES: dict[str, Any] = {
    "file": ("net.safetensors", MODEL),
    "evaluation": ("test.npz", DATASET),
}


def test_one_request_uploads_and_submits(live: httpx.Client) -> None:
    answer = live.post("/v1/compress", data=FIELDS, files=FILES)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["spec"]["sparsity"] == 0.25
    assert job["metadata"] == {"commit": "abc"}
    assert job["calibration"] is None
    model = live.get(f"/v1/models/{job['model']}").json()
    assert (model["name"], model["bytes"]) == ("net.safetensors", len(MODEL))
    assert live.get(f"/v1/datasets/{job['evaluation']}").json()["name"] == "test.npz"


def test_the_same_key_and_form_give_the_same_job(api: TestClient) -> None:
    headers = {"Idempotency-Key": "key"}
    first = api.post("/v1/compress", data=FIELDS, files=FILES, headers=headers).json()
    again = api.post("/v1/compress", data=FIELDS, files=FILES, headers=headers).json()
    assert again["id"] == first["id"]
    other = {**FIELDS, "spec": "{}"}
    refusal = api.post("/v1/compress", data=other, files=FILES, headers=headers)
    assert refusal.json()["code"] == "idempotency_mismatch"


@pytest.mark.parametrize(
    ("fields", "files", "code", "says"),
    [
        (FIELDS, {"evaluation": ("t.npz", DATASET)}, "bad_request", "no file"),
        (FIELDS | {"spec": "{"}, FILES, "bad_request", "spec is no JSON"),
        (FIELDS | {"spec": '{"sparsty": 1}'}, FILES, "unknown_field", "spec.sparsty"),
        (FIELDS | {"spec": '{"sparsity": 2}'}, FILES, "invalid_spec", "spec.sparsity is 2"),
        (FIELDS | {"sparsity": "0.5"}, FILES, "unknown_field", "'sparsity'"),
        (FIELDS | {"calibration": "data_1"}, FILES, "bad_request", "must be a file"),
        (FIELDS, FILES | {"spec": ("s.json", b"{}")}, "bad_request", "twice"),
        (FIELDS, FILES | {"file": ("n.pt", b"\x80\x04.")}, "unsafe_pickle", "pickle"),
        (FIELDS, FILES | {"evaluation": ("t.npz", MODEL)}, "dataset_without_inputs", "inputs"),
    ],
)
def test_a_form_that_is_wrong_makes_nothing(
    api: TestClient, fields: dict[str, str], files: dict[str, Any], code: str, says: str
) -> None:
    answer = api.post("/v1/compress", data=fields, files=files)
    problem = answer.json()
    assert problem["code"] == code, problem
    assert says in problem["detail"]
    assert problem["hint"]
    assert api.get("/v1/jobs").json()["data"] == []


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(
    live: httpx.Client, settings: Settings
) -> None:
    files = {"file": ("net.pt", b"x" * (settings.max_upload_bytes + 1))}
    answer = live.post("/v1/compress", files=files)
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
    assert stored_files(settings) == []


def test_what_is_no_form_is_told_how_to_be_one(api: TestClient) -> None:
    answer = api.post("/v1/compress", content=json.dumps({"spec": {}}))
    assert answer.json()["code"] == "bad_request"
    assert "--form file=@" in answer.json()["hint"]
