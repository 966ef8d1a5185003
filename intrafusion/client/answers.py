"""What the server's answers mean: typed results, or the error the server meant."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from intrafusion.api import Problem
from intrafusion.errors import ErrorCode, IntraFusionError

BUSY = frozenset({429, 502, 503, 504})

ResponseT = TypeVar("ResponseT", bound=BaseModel)


def parse(response: httpx.Response, kind: type[ResponseT]) -> ResponseT:
    """The JSON body as a `kind`. Raises `INTERNAL` where it is none."""
    try:
        content = response.json()
    except ValueError as not_json:
        raise _unreadable(str(response.request.url), response.text[:200]) from not_json
    return check(content, kind)


def check(content: Any, kind: type[ResponseT]) -> ResponseT:
    """`content` as a `kind`. Raises `INTERNAL` where it is none."""
    try:
        return kind.model_validate(content)
    except ValidationError as invalid:
        raise _unreadable(kind.__name__, str(invalid)) from invalid


def _unreadable(where: str, what: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.INTERNAL,
        f"The server's answer ({where}) cannot be read: {what}.",
        "Check that the address is that of an Intra-Fusion server, and that client and server "
        "have the same version.",
    )


def refusal(response: httpx.Response) -> IntraFusionError:
    """The error a refusing `response` carries as problem+json, or one that says it has none."""
    try:
        problem = Problem.model_validate(response.json())
    except ValueError:
        code = ErrorCode.UNAVAILABLE if response.status_code in BUSY else ErrorCode.INTERNAL
        return IntraFusionError(
            code,
            f"The server answered {response.status_code} {response.reason_phrase} without "
            "saying why.",
            "Check that the address is that of an Intra-Fusion server.",
            status=response.status_code,
        )
    return error_of(problem)


def error_of(problem: Problem) -> IntraFusionError:
    """The `IntraFusionError` that `problem`, a refusal or a failed job's error, stands for."""
    error = IntraFusionError(ErrorCode.from_code(problem.code), problem.detail, problem.hint)
    error.details.update(problem.details)
    if problem.request_id:
        error.details["request_id"] = problem.request_id
    return error


def stated_digest(response: httpx.Response) -> bytes | None:
    """The SHA-256 in `Repr-Digest: sha-256=:base64:` (RFC 9530)."""
    for entry in response.headers.get("Repr-Digest", "").split(","):
        algorithm, _, value = entry.strip().partition("=")
        if algorithm == "sha-256":
            with suppress(ValueError):
                return base64.b64decode(value.strip(":"), validate=True)
    return None
