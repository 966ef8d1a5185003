"""Errors as RFC 9457 problem+json, each with its stable code.

Whatever goes wrong leaves through here: the engine's and the service's `IntraFusionError`,
what pydantic refuses, unknown addresses and methods, and errors nobody foresaw.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from intrafusion.api import JobRequest, Problem
from intrafusion.errors import ErrorCode, IntraFusionError

PROBLEM_JSON = "application/problem+json"
_RETRY_SECONDS = 2
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

log = structlog.get_logger()


def problem_of(error: IntraFusionError, request_id: str | None = None) -> Problem:
    """The problem that tells of `error`."""
    return Problem(
        title=error.code.title,
        status=int(error.code.status),
        code=error.code.code,
        detail=error.message,
        hint=error.hint,
        details=_plain(error.details),
        request_id=request_id,
    )


def problem_response(
    error: IntraFusionError, request_id: str | None, headers: dict[str, str] | None = None
) -> Response:
    """The answer that tells of `error`."""
    headers = dict(headers or {})
    if error.code.status in (429, 503):
        headers.setdefault("Retry-After", str(_RETRY_SECONDS))
    body = problem_of(error, request_id).model_dump(mode="json", exclude_none=True)
    return Response(
        json.dumps(body),
        status_code=error.code.status,
        media_type=PROBLEM_JSON,
        headers=headers,
    )


PageAnswer = Callable[[IntraFusionError, Request], Response | None]
"""How an error is shown to a person; None where a program asked."""


def install_problems(app: FastAPI, *, to_people: PageAnswer) -> None:
    """Make every error of `app` leave as a problem, or on the page as `to_people` shows it."""

    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, IntraFusionError)
        return to_people(error, request) or problem_response(
            error, _request_id(request), getattr(error, "headers", None)
        )

    app.add_exception_handler(IntraFusionError, answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


def responses(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of an endpoint that can answer with these codes."""
    by_status: dict[int, list[ErrorCode]] = {}
    for code in codes:
        by_status.setdefault(int(code.status), []).append(code)
    return {
        status: {
            "description": "; ".join(f"`{code.code}`: {code.title}" for code in sharing),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {code.code: {"value": _example(code)} for code in sharing},
                }
            },
        }
        for status, sharing in sorted(by_status.items())
    }


def unforeseen(error: Exception, request_id: str | None) -> Response:
    """Log an error nobody foresaw and answer without giving its text away."""
    log.error("unhandled error", exc_info=error, request_id=request_id)
    return problem_response(
        IntraFusionError(
            ErrorCode.INTERNAL,
            "The server met an error that it did not foresee.",
            f"Look for request {request_id} in the server's log, and please report it.",
        ),
        request_id,
    )


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}.get(
        error.status_code, ErrorCode.BAD_REQUEST
    )
    method, path = request.method, request.url.path
    message, hint = {
        ErrorCode.NOT_FOUND: (
            f"{path} is no address of this server.",
            "See /docs for its addresses; they start with /v1.",
        ),
        ErrorCode.METHOD_NOT_ALLOWED: (
            f"{path} does not take {method}.",
            "The Allow header and /docs say what it takes.",
        ),
    }.get(code, (str(error.detail), "See /docs for what this address takes."))
    headers = dict(error.headers or {})
    if code is ErrorCode.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return problem_response(IntraFusionError(code, message, hint), _request_id(request), headers)


def _methods(request: Request) -> list[str]:
    """All methods that the address takes, where Starlette tells those of one route."""
    app: FastAPI = request.app
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in app.routes
        )
    ]


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(explain(error.errors()), _request_id(request))


def explain(errors: Sequence[Any]) -> IntraFusionError:
    """What pydantic's `errors` mean for the one who sent the request.

    Unknown fields come first, then values of the spec, then the rest: a mistyped name is the
    likeliest reason for everything else that is wrong.
    """
    fields = [
        {"field": _path(e["loc"]), "message": e["msg"], "given": _plain(e.get("input"))}
        for e in errors
    ]
    unknown = [e for e in errors if e["type"] == "extra_forbidden"]
    if unknown:
        return _explain_unknown(unknown[0]["loc"], fields)
    malformed = [e for e in errors if e["type"] == "json_invalid"]
    if malformed:
        reason = malformed[0].get("ctx", {}).get("error", malformed[0]["msg"])
        return IntraFusionError(
            ErrorCode.BAD_REQUEST,
            f"The body is not JSON: {reason}.",
            "Send a JSON object with Content-Type: application/json.",
            position=malformed[0]["loc"][-1],
        )
    in_spec = [e for e in errors if tuple(e["loc"][:2]) == ("body", "spec")]
    code = ErrorCode.INVALID_SPEC if in_spec else ErrorCode.BAD_REQUEST
    first = (in_spec or list(errors))[0]
    where = _path(first["loc"])
    description = _description(first["loc"])
    hint = f"{where}: {description}" if description else "See /docs for what this address takes."
    return IntraFusionError(code, _sentence(where, first), hint, fields=fields)


def _explain_unknown(loc: Sequence[str | int], fields: list[dict[str, Any]]) -> IntraFusionError:
    known = sorted(_known_fields(loc[1:-1]))
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return IntraFusionError(
        ErrorCode.UNKNOWN_FIELD,
        f"There is no field {_path(loc)}.",
        f"Did you mean {close[0]!r}?" if close else f"The fields are {', '.join(known)}.",
        known=known,
        fields=fields,
    )


def _sentence(where: str, error: Any) -> str:
    given = _plain(error.get("input"))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{where} is missing."
    if isinstance(given, str | int | float | bool) or given is None:
        return f"{where} is {json.dumps(given)[:100]}: {message}."
    return f"{where}: {message}."


def _path(loc: Sequence[str | int]) -> str:
    """`spec.sparsity` for ("body", "spec", "sparsity"); the body itself is "the body"."""
    steps = loc[1:] if loc and loc[0] in ("body", "query", "path", "header") else loc
    return ".".join(str(step) for step in steps) or f"the {loc[0] if loc else 'request'}"


def _schema_at(loc: Iterable[str | int]) -> dict[str, Any]:
    """The JSON schema at `loc` within a job request; {} where it has none."""
    root = JobRequest.model_json_schema()
    here: dict[str, Any] = root
    for step in loc:
        here = _object_in(here, root)
        here = here.get("items", {}) if isinstance(step, int) else _property(here, step)
    return here


def _object_in(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    for choice in (schema, *schema.get("anyOf", ()), *schema.get("allOf", ())):
        if "$ref" in choice:
            found: dict[str, Any] = root["$defs"][choice["$ref"].rsplit("/", 1)[-1]]
            return found
        if "properties" in choice or "items" in choice:
            return dict(choice)
    return schema


def _property(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = schema.get("properties", {}).get(name, {})
    return found


def _known_fields(loc: Iterable[str | int]) -> list[str]:
    root = JobRequest.model_json_schema()
    return list(_object_in(_schema_at(loc), root).get("properties", {}))


def _description(loc: Sequence[str | int]) -> str:
    return str(_schema_at(loc[1:]).get("description", "")) if loc and loc[0] == "body" else ""


def _plain(value: Any) -> Any:
    """`value` as JSON can carry it: what is not finite, or no JSON at all, becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def _example(code: ErrorCode) -> dict[str, Any]:
    return {"title": code.title, "status": int(code.status), "code": code.code, "detail": "…"}


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)
