"""The OpenAPI document: errors as problems, and an example in every schema.

`python -m service.openapi > docs/openapi.json` writes the committed copy.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib import resources
from typing import Any

from fastapi import FastAPI

from intrafusion.api import REPORT_FILE, Problem
from intrafusion.errors import ErrorCode
from service.problems import responses

_ANYWHERE = {
    str(status): answer
    for status, answer in responses(
        ErrorCode.BAD_REQUEST,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN,
        ErrorCode.TOO_MANY_REQUESTS,
    ).items()
}
_TOO_LARGE = responses(ErrorCode.UPLOAD_TOO_LARGE)[413]
_ID, _ASKED = "$response.body#/id", "$request.path.job_id"


def _to(*targets: str, body: dict[str, str] | None = None, **parameters: str) -> dict[str, Any]:
    """Links to the operations `targets`, with these parameters."""
    more = {} if body is None else {"requestBody": body}
    return {target: {"operationId": target, "parameters": parameters, **more} for target in targets}


_LINKS = {
    "upload_model": _to("get_model", "delete_model", model_id=_ID)
    | _to("submit_job", body={"model": _ID}),
    "upload_dataset": _to("get_dataset", "delete_dataset", dataset_id=_ID),
    "begin_upload": _to("get_upload", "stat_upload", "give_up_upload", upload_id=_ID),
    **dict.fromkeys(
        ("submit_job", "compress", "retry_job"),
        _to("get_job", "list_events", "list_artifacts", "cancel_job", "delete_job", job_id=_ID),
    ),
    "get_job": _to("get_report", "get_plan", "retry_job", "delete_job", job_id=_ID),
    "list_artifacts": _to("download_artifact", "stat_artifact", job_id=_ASKED, name=REPORT_FILE),
    "cancel_job": _to("get_job", "retry_job", "delete_job", job_id=_ID),
}
"""Where an operation's answer leads, by the name of the operation."""
_VALIDATION = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI) -> None:
    """Let `app.openapi()` tell of problems and examples."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for name in _VALIDATION:
            schemas.pop(name, None)
        for operations in document["paths"].values():
            for operation in operations.values():
                described = operation["responses"].get("422", {}).get("content", {})
                if "application/json" in described:
                    del operation["responses"]["422"]
                if "security" in operation:
                    operation["responses"] = _ANYWHERE | operation["responses"]
                _link(operation)
                if "requestBody" in operation:
                    operation["responses"].setdefault("413", _TOO_LARGE)
        for name, schema in schemas.items():
            schema["examples"] = [examples()[name]]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _link(operation: dict[str, Any]) -> None:
    """Say what can be done with what the operation made or found."""
    links = _LINKS.get(operation["operationId"])
    for status, answer in operation["responses"].items():
        if links and status.startswith("2"):
            answer["links"] = links


@cache
def examples() -> dict[str, Any]:
    """An example of each schema by its name, most of them parts of one job that was run."""
    text = resources.files("service").joinpath("examples.json").read_text()
    told: dict[str, Any] = json.loads(text)
    job, report = told["Job"], told["CompressionReport"]
    told["JobResult"] = job["result"]
    told["GateOutcome"] = job["gates"]
    told["GateCheck"] = job["gates"]["checks"][0]
    told["JobProgress"] = job["progress"]
    told["Measurement"] = report["after"]
    told["Latency"] = report["after"]["latency"]
    told["Fidelity"] = report["fidelity"]
    told["GroupReport"] = report["groups"][0]
    told["CompensationReport"] = report["compensation"]
    told["SearchReport"] = report["search"]
    told["TryReport"] = report["search"]["tries"][0]
    told["CompressionSpec"] = report["spec"]
    told["FrozenReport"] = told["Model"]["inspection"]["frozen"][0]
    told["InspectionReport"] = told["Model"]["inspection"]
    for name in ("Model", "Dataset", "Job", "Event", "Artifact", "ArchitectureName", "Method"):
        entry = {key: value for key, value in told[name].items() if key != "inspection"}
        told[f"Page_{name}_"] = {"data": [entry], "next": None}
    return told


def main() -> None:
    """Print the document."""
    from service.main import create_app
    from service.settings import Settings

    document = create_app(Settings()).openapi()
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
