"""OpenTelemetry traces of requests and of the jobs they made, where an endpoint is configured.

`OTEL_EXPORTER_OTLP_ENDPOINT` turns them on; the other `OTEL_…` variables are OpenTelemetry's own.
A job's record keeps the trace of its request, so that the worker can go on with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from intrafusion.errors import ErrorCode, IntraFusionError, how_to_install

if TYPE_CHECKING:
    from fastapi import FastAPI
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_HEADER = "traceparent"


def tracing_configured() -> bool:
    """Whether there is somewhere to send traces to."""
    return any(os.environ.get(name) for name in _ENDPOINTS)


def new_provider(name: str) -> TracerProvider:
    """What sends spans to the endpoint, as the service `name` unless `OTEL_SERVICE_NAME` is set.

    Raises `ENGINE_MISSING` where OpenTelemetry is not installed.
    """
    with _needed():
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    chosen = os.environ.get("OTEL_SERVICE_NAME", name)
    provider = TracerProvider(resource=Resource.create({"service.name": chosen}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


@contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        named = next(name for name in _ENDPOINTS if os.environ.get(name))
        raise IntraFusionError(
            ErrorCode.ENGINE_MISSING,
            f"{named} asks for traces, which need {missing.name}, and that is not installed.",
            f"Install it, or unset {named}: {how_to_install('tracing')}.",
        ) from missing


def check_tracing() -> None:
    """Raise `ENGINE_MISSING` where an endpoint is configured and OpenTelemetry is not installed."""
    if tracing_configured():
        new_provider("check").shutdown()


def trace(app: FastAPI) -> Callable[[], None]:
    """Trace `app` if an endpoint is configured; returns what sends the last spans at its end.

    Raises `ENGINE_MISSING` where one is configured and OpenTelemetry is not installed.
    """
    if not tracing_configured():
        return lambda: None
    with _needed():
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    provider = new_provider("intrafusion")
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, excluded_urls="healthz,readyz,metrics"
    )
    return provider.shutdown


def traceparent() -> str | None:
    """What leads back to the span that is open, in W3C's form; None where nothing is traced."""
    if not tracing_configured():
        return None
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier.get(_HEADER)
