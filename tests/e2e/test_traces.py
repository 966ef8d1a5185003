"""A trace through real processes: the API of `intrafusion serve`, its worker, and a collector."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.collector import collecting, spans
from tests.e2e.conftest import Server
from tests.service.conftest import MODEL


def test_api_and_worker_send_one_trace_the_last_of_it_when_they_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # ms: no batch before the end
        server = Server(tmp_path / "home", job_module="tests.worker.play", sandbox="off")
        server.start()
        try:
            job = server.submit(
                model=server.upload("models", MODEL),
                input_shapes=[[1, 3]],
                architecture={"name": "play"},
                metadata={"act": "succeed"},
            )
            assert server.finish(job)["status"] == "succeeded"
        finally:
            server.stop()
        api, worker = spans(collector, "intrafusion"), spans(collector, "intrafusion-worker")
    request, attempt = api["POST /v1/jobs"], worker["job"]
    assert attempt.trace_id == request.trace_id
    assert attempt.parent_span_id == request.span_id
    assert worker["fuse"].parent_span_id == attempt.span_id
    told = {a.key: a.value.string_value for a in attempt.attributes}
    assert (told["job_id"], told["ending"]) == (job, "done")
