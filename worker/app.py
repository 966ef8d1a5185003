"""The Celery app of the workers. `python -m worker` starts one.

Celery delivers job ids and keeps one child process ready; what happens to a job is decided
by the records (service.store.jobs). Hence no result backend, no retries of Celery's own, and
no rejection when a child is lost: a job that brings its worker down would otherwise be
delivered for ever, whereas the reaper counts attempts.
"""

from __future__ import annotations

import os

from celery import Celery, signals

from service.logs import configure_logging
from service.queue import celery_options
from service.settings import Settings
from worker.presence import Presence, worker_name
from worker.tether import die_with_parent
from worker.tracing import send_last_spans

settings = Settings()
configure_logging(settings.log_level)

app = Celery("intrafusion", include=["worker.tasks"])
app.conf.update(
    celery_options(settings),
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    task_time_limit=settings.job_seconds + 600,  # the supervisor is the first to act
    worker_prefetch_multiplier=1,
    worker_pool="prefork",
    worker_concurrency=1,
    worker_pool_start_method="spawn",
    worker_max_tasks_per_child=100,  # the job process is what is fresh for every job
    worker_proc_alive_timeout=60,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_max_retries=None,
)

_presence: Presence | None = None


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _announce(**_: object) -> None:
    global _presence
    _presence = Presence(settings, worker_name())
    _presence.start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _begin_to_stop(**_: object) -> None:
    if _presence is not None:
        _presence.drain()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _leave(**_: object) -> None:
    if _presence is not None:
        _presence.stop()


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _end_child(**_: object) -> None:
    send_last_spans()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _tie_child(**_: object) -> None:
    die_with_parent(os.getppid())
