"""Goes on with the trace of the request that made a job: one span for it, one for each step.

The job process has no network and cannot send any; its steps are known from what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from service.tracing import new_provider, tracing_configured
from worker.steps import TimedStep

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


@cache
def _provider() -> TracerProvider:
    return new_provider("intrafusion-worker")


def trace_job(
    steps: Sequence[TimedStep],
    *,
    traceparent: str | None,
    attributes: Mapping[str, str | int],
    error: str | None,
) -> None:
    """Send a span for the attempt that took these steps, below the span of `traceparent`.

    Does nothing where no endpoint is configured. `error` is why the attempt failed.
    """
    if not tracing_configured() or not steps:
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

    tracer = _provider().get_tracer("worker")
    span = tracer.start_span(
        "job",
        context=extract({} if traceparent is None else {"traceparent": traceparent}),
        kind=SpanKind.CONSUMER,
        attributes=dict(attributes),
        start_time=_ns(steps[0].began),
    )
    for step in steps:
        child = tracer.start_span(
            step.name, context=set_span_in_context(span), start_time=_ns(step.began)
        )
        child.end(_ns(step.ended))
    if error is not None:
        span.set_status(StatusCode.ERROR, error)
    span.end(_ns(steps[-1].ended))


def send_last_spans() -> None:
    """Send what has not been sent; the process is about to end."""
    if _provider.cache_info().currsize:
        _provider().shutdown()
        _provider.cache_clear()


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
