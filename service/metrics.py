"""What Prometheus may read at /metrics: requests of this process, and jobs and workers of all."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.settings import Settings
from service.store.database import Database, now
from service.store.jobs import count_by_status, oldest_queued
from service.store.timings import Timed, list_timings
from service.store.workers import count_alive

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The numbers of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "intrafusion_http_request_seconds",
            "Seconds from a request's arrival to the end of its answer.",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._received = Counter(
            "intrafusion_received_bytes",
            "Bytes of request bodies.",
            ["route"],
            registry=self._registry,
        )

    def watch(self, database: Database, settings: Settings) -> None:
        """Tell of the jobs and workers in `database` too, as they are when asked."""
        self._registry.register(_Installation(database, settings))

    def request(
        self, *, method: str, route: str, status: int, seconds: float, received: int
    ) -> None:
        """Count a request. `route` is the address with its placeholders, never with ids."""
        self._seconds.labels(method, route, str(status)).observe(seconds)
        if received:
            self._received.labels(route).inc(received)

    def text(self) -> bytes:
        """All numbers in Prometheus's text format."""
        return generate_latest(self._registry)


class _Installation(Collector):
    """Looked up in the records at every scrape: the same from every API process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering does not ask the database

    def collect(self) -> Iterable[Metric]:
        with self._database.read() as session:
            counts = count_by_status(session)
            oldest = oldest_queued(session)
            alive = count_alive(session, within_seconds=self._settings.worker_alive_seconds)
            timings = list(list_timings(session))
        jobs = GaugeMetricFamily("intrafusion_jobs", "Jobs in each state.", labels=["status"])
        for status, count in counts.items():
            jobs.add_metric([status], count)
        yield jobs
        waited = 0.0 if oldest is None else (now() - oldest).total_seconds()
        yield GaugeMetricFamily(
            "intrafusion_longest_wait_seconds",
            "How long the job has waited that has waited longest.",
            value=waited,
        )
        yield GaugeMetricFamily("intrafusion_workers", "Workers that are alive.", value=alive)
        histograms: dict[Timed, HistogramMetricFamily] = {
            "queue_wait": HistogramMetricFamily(
                "intrafusion_queue_wait_seconds", "Seconds from a job's submission to its start."
            ),
            "step": HistogramMetricFamily(
                "intrafusion_step_seconds",
                "Seconds that a job spent in each of its steps; `start` is until its first word.",
                labels=["step"],
            ),
        }
        for found in timings:
            labels = [found.label] if found.label else []
            histograms[found.timed].add_metric(
                labels, list(found.counts.items()), sum_value=found.seconds
            )
        yield from histograms.values()
