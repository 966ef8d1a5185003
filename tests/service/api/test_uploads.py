"""Models and datasets: the same rules hold for both."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.settings import Settings
from tests.service.conftest import DATASET, MODEL, npz, safetensors, stored_files, upload

BOTH = pytest.mark.parametrize(("what", "content"), [("models", MODEL), ("datasets", DATASET)])


@BOTH
def test_a_raw_body_is_kept(api: TestClient, what: str, content: bytes) -> None:
    answer = api.post(f"/v1/{what}", content=content, params={"name": "dir/file.bin"})
    assert answer.status_code == 201
    body = answer.json()
    assert body["sha256"] == hashlib.sha256(content).hexdigest()
    assert body["bytes"] == len(content)
    assert body["name"] == "file.bin"
    assert body["kind"] == {"models": "safetensors", "datasets": "npz"}[what]
    assert answer.headers["Location"] == f"/v1/{what}/{body['id']}"
    assert api.get(answer.headers["Location"]).json() == body


@BOTH
def test_one_multipart_part_is_the_same_upload(api: TestClient, what: str, content: bytes) -> None:
    first = api.post(f"/v1/{what}", files={"anything": ("net.pt", content)})
    assert first.status_code == 201
    assert first.json()["name"] == "net.pt"
    again = api.post(f"/v1/{what}", content=content)
    assert again.status_code == 200
    assert again.json() == first.json()


@BOTH
def test_the_same_bytes_give_the_same_id_and_one_file(
    api: TestClient, settings: Settings, what: str, content: bytes
) -> None:
    assert upload(api, what, content) == upload(api, what, content)
    assert len(stored_files(settings)) == 1


@BOTH
def test_uploads_are_listed_newest_first_in_pages(
    api: TestClient, what: str, content: bytes
) -> None:
    def other(number: int) -> bytes:
        if what == "models":
            return safetensors(weight=[float(number)])
        return npz(inputs=np.full((2, 2), number, np.float32))

    ids = [upload(api, what, other(number)) for number in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = api.get(f"/v1/{what}", params=params).json()
        assert len(page["data"]) <= 2
        seen += [entry["id"] for entry in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == sorted(ids, reverse=True)


@BOTH
def test_an_unknown_id_is_not_found(api: TestClient, what: str, content: bytes) -> None:
    answer = api.get(f"/v1/{what}/nothing")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def refused(api: TestClient, what: str, content: bytes) -> str:
    answer = api.post(f"/v1/{what}", content=content)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["hint"]
    return str(problem["code"])


def zipped(**entries: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("what", "content", "code"),
    [
        ("models", b"", "not_a_model"),
        ("models", b"hello, I am no model at all", "not_a_model"),
        ("models", zipped(a=b"no model"), "not_a_model"),
        ("models", zipped(a=b"x" * 500)[:-40], "corrupt_model"),
        ("models", MODEL[:-2], "corrupt_model"),
        ("models", b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.", "unsafe_pickle"),
        ("datasets", b"", "not_a_dataset"),
        ("datasets", b"a,b\n1,2\n", "not_a_dataset"),
        ("datasets", DATASET[:-30], "not_a_dataset"),
        ("datasets", npz(labels=np.arange(3)), "dataset_without_inputs"),
        (
            "datasets",
            npz(inputs=np.zeros((3, 2), np.float32), labels=np.arange(2)),
            "dataset_labels_invalid",
        ),
    ],
)
def test_what_is_none_is_refused_and_leaves_nothing(
    api: TestClient, settings: Settings, what: str, content: bytes, code: str
) -> None:
    assert refused(api, what, content) == code
    assert stored_files(settings) == []
    assert api.get(f"/v1/{what}").json()["data"] == []


@BOTH
def test_an_upload_over_the_limit_leaves_nothing(
    api: TestClient, settings: Settings, what: str, content: bytes
) -> None:
    big = content + bytes(settings.max_upload_bytes)

    def unannounced() -> Iterator[bytes]:
        for start in range(0, len(big), 10_000):
            yield big[start : start + 10_000]

    for answer in (
        api.post(f"/v1/{what}", content=big),
        api.post(f"/v1/{what}", content=unannounced()),
        api.post(f"/v1/{what}", files={"file": big}),
    ):
        assert answer.status_code == 413
        assert answer.json()["code"] == "upload_too_large"
        assert answer.json()["details"]["limit"] == settings.max_upload_bytes
    assert stored_files(settings) == []
    assert upload(api, what, content)


def digest_header(content: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return {"Repr-Digest": f"sha-256=:{digest}:"}


def test_stated_bytes_are_checked(api: TestClient, settings: Settings) -> None:
    wrong = api.post("/v1/models", content=MODEL, headers=digest_header(b"other"))
    assert wrong.status_code == 400
    assert wrong.json()["code"] == "checksum_mismatch"
    assert stored_files(settings) == []
    right = api.post("/v1/models", content=MODEL, headers=digest_header(MODEL))
    assert right.status_code == 201


def test_a_digest_that_is_none_is_told(api: TestClient) -> None:
    answer = api.post("/v1/models", content=MODEL, headers={"Repr-Digest": "sha-256=:AAAA:"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno file\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\ncut off',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; filename="f"\r\n\r\n1\r\n' * 2 + b"--x--\r\n",
        ),
    ],
    ids=["no boundary", "no file", "cut off", "two files"],
)
def test_a_form_must_hold_one_whole_file(
    api: TestClient, settings: Settings, content_type: str, body: bytes
) -> None:
    answer = api.post("/v1/models", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_request"
    assert stored_files(settings) == []
