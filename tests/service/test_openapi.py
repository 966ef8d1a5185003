"""The OpenAPI document: committed, true, and with an example for everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi.testclient import TestClient

from service.keys import create_api_key
from service.main import create_app
from service.settings import Settings
from service.store.database import Database
from tests.service.conftest import MODEL, running

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "openapi.json"
SOUND = "positive_data_acceptance,negative_data_rejection"
"""Checks of what a schema lets through, for requests that are not drawn from it."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(json.dumps(create_app(Settings(log_level="ERROR")).openapi()))


def test_the_committed_document_is_the_servers(document: dict[str, Any]) -> None:
    committed = json.loads(COMMITTED.read_text())
    assert committed == document, "write it again: python -m service.openapi > docs/openapi.json"


def test_every_schema_has_an_example_that_fits_it(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        (example,) = schema["examples"]
        whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        jsonschema.validate(example, whole, jsonschema.Draft202012Validator)


def test_every_operation_has_an_id_a_summary_and_says_what_can_go_wrong(
    document: dict[str, Any],
) -> None:
    ids = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            ids.append(operation["operationId"])
            assert operation["description"], (method, path)
            assert any(status.startswith("2") for status in operation["responses"])
            if path.startswith("/v1") and method != "options":
                assert "401" in operation["responses"], (method, path)
    assert len(ids) == len(set(ids))


def test_the_server_gives_the_document(api: TestClient, document: dict[str, Any]) -> None:
    assert api.get("/openapi.json").json() == document


def schemathesis(url: str, key: str, folder: Path, *arguments: str, **variables: str) -> None:
    """Have schemathesis ask the server at `url`; fails with all that it found."""
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
            *("--header", "Tus-Resumable: 1.0.0"),
            *("--max-examples", "15", "--seed", "1", "--generation-database", "none"),
            *("--no-color", "--exclude-operation-id", "send_part"),
            *("--exclude-operation-id", "get_readiness"),  # there is no worker here: 503
            *("--exclude-checks", "positive_data_acceptance", *arguments),
        ],
        cwd=folder,
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": "tests.service.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
        | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.fixture
def key(database: Database) -> str:
    return create_api_key(database=database, name="schemathesis", tenant="t")[0]


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with running(settings.model_copy(update={"max_wait_seconds": 0.2})) as address:
        yield address


@pytest.mark.slow
def test_schemathesis_finds_nothing(url: str, key: str, tmp_path: Path) -> None:
    """Answers as documented, errors as problems, no crash, nothing without a key.

    Left out: that whatever fits a schema is accepted, because no schema says that a file is a
    network or that two fields exclude each other; and tus parts, which it cannot send.
    """
    schemathesis(url, key, tmp_path, "--phases", "examples,coverage,fuzzing")


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_sequences(url: str, key: str, tmp_path: Path) -> None:
    """The same of calls that follow one another by the links of the document."""
    headers = {"Authorization": f"Bearer {key}"}
    stored = httpx.post(f"{url}/v1/models", content=MODEL, headers=headers).json()["id"]
    phases = ("--phases", "stateful", "--exclude-checks", SOUND)
    schemathesis(url, key, tmp_path, *phases, STORED_MODEL=stored)
    jobs = httpx.get(f"{url}/v1/jobs", headers=headers).json()["data"]
    assert jobs, "it made none, and so looked at none"
