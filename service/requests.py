"""Around every request: an id that follows it into the log, and an answer whatever happens."""

from __future__ import annotations

import re
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intrafusion.errors import ErrorCode, IntraFusionError
from service.body import Body, replayed
from service.ids import new_id
from service.metrics import Metrics
from service.problems import problem_response, unforeseen

log = structlog.get_logger()

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_UPLOADS = frozenset({"/v1/models", "/v1/datasets", "/v1/compress", "/jobs/new"})
_MAX_BODY_BYTES = 1024**2
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


class BodyLimit:
    """Refuses JSON bodies too long for any request; uploads have a limit of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_upload(scope):
            await self._app(scope, receive, send)
            return
        body = Body(receive)
        content = bytearray()
        async for chunk in body.chunks():
            content += chunk
            if len(content) > _MAX_BODY_BYTES:
                await body.drain()
                response = problem_response(_too_long(), scope["state"]["request_id"])
                await response(scope, receive, send)
                return
        await self._app(scope, replayed(bytes(content), receive), send)


def _is_upload(scope: Scope) -> bool:
    path: str = scope["path"]
    return path in _UPLOADS or (scope["method"] == "PATCH" and path.startswith("/v1/uploads/"))


def _too_long() -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.UPLOAD_TOO_LARGE,
        f"The body is over {_MAX_BODY_BYTES:,} bytes, more than any request needs.",
        "Send files to /v1/models and /v1/datasets, and use their ids here.",
        limit=_MAX_BODY_BYTES,
    )


class RequestMiddleware:
    """Gives each request an id (the caller's `X-Request-ID`, if sane), logs it, answers errors."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("X-Request-ID", "")
        request_id = given if _SANE_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        status = received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in scope["state"].get("headers", {}).items():
                    headers.setdefault(name, value)
            await send(message)

        began = time.monotonic()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive_counted, send_with_id)
            except ClientDisconnect:
                log.info("client went away", path=scope["path"])
            except Exception as error:
                response = unforeseen(error, request_id)
                if status == 0:
                    await response(scope, receive, send_with_id)
                else:  # half an answer is out; only breaking the connection tells the client
                    raise
            finally:
                seconds = time.monotonic() - began
                self._metrics.request(
                    method=scope["method"],
                    route=_route(scope),
                    status=status,
                    seconds=seconds,
                    received=received,
                )
                write = log.debug if scope["path"] in _QUIET else log.info
                write(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(seconds * 1000, 1),
                )


def _route(scope: Scope) -> str:
    """The address with its placeholders; one name for all that are none of ours."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))
