"""A collector of OpenTelemetry traces, which reads what it is sent (OTLP over HTTP)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.intrafusion.scripted_server import Answer, Script, scripted_server


@contextmanager
def collecting() -> Iterator[Script]:
    """A collector that listens for as long as the context lasts."""
    with scripted_server() as collector:
        collector.on("POST", "/v1/traces", Answer(200, b""))
        yield collector


def spans(collector: Script, service: str | None = None) -> dict[str, Span]:
    """All spans that the collector got, of `service` only, by name."""
    found: dict[str, Span] = {}
    for call in collector.calls:
        for resource in ExportTraceServiceRequest.FromString(call.body).resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            if service in (None, names["service.name"]):
                found |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
    return found
