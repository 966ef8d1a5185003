"""OpenTelemetry traces of requests, where an endpoint for them is configured.

`OTEL_EXPORTER_OTLP_ENDPOINT` turns them on; the other `OTEL_…` variables are OpenTelemetry's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from fastapi import FastAPI

from intrafusion.errors import ErrorCode, IntraFusionError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def trace(app: FastAPI) -> Callable[[], None]:
    """Trace `app` if an endpoint is configured; returns what sends the last spans at its end.

    Raises `ENGINE_MISSING` where one is configured and OpenTelemetry is not installed.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as missing:
        raise IntraFusionError(
            ErrorCode.ENGINE_MISSING,
            f"Traces need {missing.name}, which is not installed.",
            "Install it with 'intrafusion[tracing]', or unset OTEL_EXPORTER_OTLP_ENDPOINT.",
        ) from missing
    name = os.environ.get("OTEL_SERVICE_NAME", "intrafusion")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, excluded_urls="healthz,readyz,metrics"
    )
    return provider.shutdown
