"""What the server does unasked: publishes queued jobs, takes lost ones back, tidies up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import structlog
from anyio import to_thread
from obstore.exceptions import BaseError
from sqlalchemy.exc import SQLAlchemyError

from service.partial_uploads import remove_stale
from service.queue import Queue, QueueUnreachableError
from service.retention import collect_orphans, expire_records
from service.settings import Settings
from service.store import jobs
from service.store.blobs import Blobs
from service.store.database import Database, now
from service.store.parts import Parts
from service.webhooks import deliver_due
from worker.reaper import reap

log = structlog.get_logger()

_BATCH = 200
_TICK_SECONDS = 1.0
_STOP_SECONDS = 10.0


class Upkeep:
    """Runs beside the API, in threads: the event loop never waits for Redis or the database.

    The queue may lose ids, for example when Redis loses its data. Jobs that wait although
    the queue is empty are therefore published again; a worker that gets one twice finds
    nothing to claim.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        parts: Parts,
        queue: Queue,
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._parts = parts
        self._queue = queue
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._tasks = [
            asyncio.create_task(self._dispatch(), name="dispatcher"),
            asyncio.create_task(self._reap(), name="reaper"),
            asyncio.create_task(self._collect(), name="collector"),
            asyncio.create_task(self._tell(), name="webhooks"),
        ]

    async def stop(self) -> None:
        """End what `start` began, each task when what it is doing is done."""
        self._stopping.set()
        self._wake.set()
        _, unfinished = await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        for task in unfinished:
            log.warning("a task did not stop in time", task=task.get_name())
            task.cancel()

    def wake(self) -> None:
        """Publish now: a job was queued."""
        self._wake.set()

    async def _dispatch(self) -> None:
        while not self._stopping.is_set():
            await _attempt(self._publish_waiting, "dispatcher")
            await _within(_TICK_SECONDS, self._wake)
            self._wake.clear()

    def _publish_waiting(self) -> bool:
        with self._database.read() as session:
            at_once = self._settings.quota_running_jobs
            due = list(jobs.list_unpublished(session, limit=_BATCH, at_once=at_once))
            before = now() - timedelta(seconds=self._settings.redeliver_seconds)
            stale = jobs.list_waiting(session, published_before=before, limit=_BATCH)
        if stale and self._queue.length() == 0:
            due.extend(stale)
        for job_id in due:
            self._queue.publish(job_id)
            with self._database.write() as session:
                jobs.mark_published(session, job_id)
        return bool(due)

    def _take_back(self) -> bool:
        return bool(reap(self._database, max_attempts=self._settings.max_attempts))

    async def _reap(self) -> None:
        while not self._stopping.is_set():
            if await _attempt(self._take_back, "reaper"):
                self._wake.set()
            await _within(min(_TICK_SECONDS, self._settings.lease_seconds / 3), self._stopping)

    def _tidy(self) -> bool:
        expired = expire_records(database=self._database, settings=self._settings)
        remove_stale(database=self._database, parts=self._parts, settings=self._settings)
        orphans = collect_orphans(
            database=self._database, blobs=self._blobs, settings=self._settings
        )
        return bool(expired or orphans)

    async def _collect(self) -> None:
        while not self._stopping.is_set():
            await _attempt(self._tidy, "collector")
            await _within(self._settings.collect_seconds, self._stopping)

    def _deliver(self) -> bool:
        return bool(deliver_due(database=self._database, settings=self._settings))

    async def _tell(self) -> None:
        while not self._stopping.is_set():
            await _attempt(self._deliver, "webhooks")
            await _within(_TICK_SECONDS, self._stopping)


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, and no longer than that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _attempt(work: Callable[[], bool], name: str) -> bool:
    try:
        return await to_thread.run_sync(work)
    except QueueUnreachableError as error:
        log.warning("the queue is unreachable; queued jobs wait", reason=str(error))
    except SQLAlchemyError as error:
        log.error("the database failed", task=name, reason=str(error))
    except (OSError, BaseError) as error:
        log.error("the blob store failed", task=name, reason=str(error))
    return False
