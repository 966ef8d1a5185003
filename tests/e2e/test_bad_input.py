"""Everything a user may get wrong, over REST: its own code, a sentence on what to do, no crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from tests.e2e import files
from tests.e2e.conftest import Server

ARCHITECTURE = {"name": "own/line", "arguments": {}}


@pytest.fixture(scope="module")
def model(server: Server) -> str:
    return server.upload("models", files.torchscript())


@pytest.fixture(scope="module")
def state_dict(server: Server) -> str:
    return server.upload("models", files.state_dict())


@pytest.fixture(autouse=True)
def still_up(server: Server) -> Any:
    """Afterwards the server is ready, and nothing half-written lies about."""
    yield
    assert server.http.get("/readyz").status_code == 200
    assert list((server.home / "blobs" / "incoming").iterdir()) == []
    assert list((server.home / "jobs").glob("*")) == []


def check(problem: dict[str, Any], code: str, status: int) -> None:
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["title"]
    assert problem["detail"].endswith(".")
    assert len(problem["hint"]) > 20
    assert "Traceback" not in problem["detail"]


def check_answer(answer: httpx.Response, code: str, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    check(answer.json(), code, status)


@pytest.mark.parametrize(
    ("what", "content", "code", "status"),
    [
        ("models", lambda: b"\x89PNG is not a model", "not_a_model", 415),
        ("models", lambda: files.torchscript()[:-1000], "corrupt_model", 415),
        ("datasets", lambda: b"1,2,3", "not_a_dataset", 415),
        ("datasets", lambda: files.npz(labels=files.labels()), "dataset_without_inputs", 422),
        ("models", lambda: bytes(5_000_001), "upload_too_large", 413),
        ("datasets", lambda: bytes(5_000_001), "upload_too_large", 413),
    ],
)
def test_files_are_refused_at_the_door(
    server: Server, what: str, content: Callable[[], bytes], code: str, status: int
) -> None:
    check_answer(server.http.post(f"/v1/{what}", content=content()), code, status)


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ({"spec": {"sparsity": 0}}, "invalid_spec", 422),
        ({"spec": {"sparsity": 1}}, "invalid_spec", 422),
        ({"spec": {"importance": "luck"}}, "invalid_spec", 422),
        ({"spec": {"sparcity": 0.5}}, "unknown_field", 400),
        ({"input_shapes": None}, "input_shape_missing", 422),
    ],
)
def test_requests_are_refused_at_the_door(
    server: Server, model: str, change: dict[str, Any], code: str, status: int
) -> None:
    body = {"model": model, "input_shapes": [files.SHAPE]} | change
    check_answer(server.http.post("/v1/jobs", json=body), code, status)


def test_a_key_used_for_another_request_is_refused(server: Server, model: str) -> None:
    body = {"model": model, "input_shapes": [files.SHAPE]}
    headers = {"Idempotency-Key": "bad-input"}
    first = server.http.post("/v1/jobs", json=body, headers=headers).json()
    server.http.post(f"/v1/jobs/{first['id']}/cancel")
    other = server.http.post("/v1/jobs", json=body | {"metadata": {"a": "b"}}, headers=headers)
    check_answer(other, "idempotency_mismatch", 409)
    assert server.finish(first["id"])["status"] == "cancelled"


def bad_jobs(server: Server, model: str, state_dict: str) -> dict[str, tuple[dict[str, Any], str]]:
    """Requests that look well and fail in the engine, with the code each must fail with."""

    def dataset(**arrays: np.ndarray) -> str:
        return server.upload("datasets", files.npz(**arrays))

    inputs = files.inputs()
    spoilt = inputs.copy()
    spoilt[3, 0, 0, 0] = np.nan
    shape = [files.SHAPE]
    return {
        "wrong input shape": (
            {"model": model, "input_shapes": [[1, 5, 16, 16]]},
            "input_shape_mismatch",
        ),
        "unknown architecture": (
            {"model": state_dict, "input_shapes": shape, "architecture": {"name": "no/such"}},
            "unknown_architecture",
        ),
        "state dict that does not fit": (
            {"model": state_dict, "input_shapes": shape, "architecture": ARCHITECTURE},
            "state_dict_mismatch",
        ),
        "calibration of the wrong shape": (
            {
                "model": model,
                "input_shapes": shape,
                "calibration": dataset(inputs=inputs[:, :, :8, :8]),
            },
            "dataset_shape_mismatch",
        ),
        "calibration of the wrong dtype": (
            {
                "model": model,
                "input_shapes": shape,
                "calibration": dataset(inputs=(inputs * 9).astype(np.int64)),
            },
            "dataset_dtype_mismatch",
        ),
        "calibration with NaN": (
            {"model": model, "input_shapes": shape, "calibration": dataset(inputs=spoilt)},
            "dataset_not_finite",
        ),
        "labels that are no classes": (
            {
                "model": model,
                "input_shapes": shape,
                "evaluation": dataset(inputs=inputs, labels=files.labels() + 5),
            },
            "dataset_labels_invalid",
        ),
    }


@pytest.mark.slow
def test_what_only_the_engine_can_see_fails_the_job(
    server: Server, model: str, state_dict: str
) -> None:
    expected = bad_jobs(server, model, state_dict)
    jobs = {name: server.submit(**body) for name, (body, _) in expected.items()}
    ended = {name: server.finish(job) for name, job in jobs.items()}
    codes = {
        name: job["error"]["code"] if job["error"] else job["status"] for name, job in ended.items()
    }
    assert codes == {name: code for name, (_, code) in expected.items()}
    for name, job in ended.items():
        assert job["status"] == "failed"
        check(job["error"], expected[name][1], 422)
        answer = server.http.get(f"/v1/jobs/{job['id']}/report")
        assert answer.status_code == 404
