"""Takes jobs back from workers that fell silent."""

from __future__ import annotations

import structlog

from service.store.database import Database
from service.store.jobs import any_lost, reclaim_lost_jobs

log = structlog.get_logger()


def reap(database: Database, *, max_attempts: int) -> list[str]:
    """Return jobs whose lease ran out to the queue, or fail those lost too often; their ids.

    Any number of processes may call it at any time: every change is conditional. The API
    calls it all the time, so that it happens although all workers are dead.
    """
    with database.read() as session:
        if not any_lost(session):  # a look costs no write lock
            return []
    with database.write() as session:
        lost = reclaim_lost_jobs(session, max_attempts=max_attempts)
    for job_id in lost:
        log.warning("took a job back from a lost worker", job_id=job_id)
    return lost
