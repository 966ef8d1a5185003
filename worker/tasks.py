"""The one Celery task."""

from __future__ import annotations

from service.queue import RUN_JOB
from service.store.blobs import Blobs
from service.store.database import Database
from worker.app import app, settings
from worker.presence import worker_name
from worker.run import run_delivered


@app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
def run_job(job_id: str) -> None:
    """Run the job with this id, unless it is already run or settled."""
    database = Database(settings.database)
    try:
        run_delivered(
            job_id,
            settings=settings,
            database=database,
            blobs=Blobs(settings.blobs, spool=settings.home / "incoming"),
            worker=worker_name(),
        )
    finally:
        database.close()
