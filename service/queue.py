"""The queue, seen from where jobs are published. It carries job ids and nothing else."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.settings import Settings

RUN_JOB = "worker.run_job"
NAME = "jobs"
_CONNECT_SECONDS = 2


class QueueUnreachableError(Exception):
    """The Redis-protocol server does not answer."""


def celery_options(settings: Settings) -> dict[str, Any]:
    """What publishers and workers must agree on to use the same queue.

    The visibility timeout lies above the longest a job may run: a shorter one delivers long
    jobs twice. Retries are few, because publishing happens again anyway while a job waits.
    """
    transport = {
        "visibility_timeout": settings.job_seconds + 3600,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "max_retries": 1,
    }
    return {
        "broker_url": _broker_url(settings.redis_url),
        "broker_transport_options": transport,
        "result_backend_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "task_default_queue": NAME,
        "task_ignore_result": True,
        "task_publish_retry_policy": {
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.2,
        },
    }


class Queue:
    """Publishes job ids. Every call may block for about a second while Redis is away."""

    def __init__(self, settings: Settings) -> None:
        self._celery = Celery("intrafusion.publisher", set_as_current=False)
        self._celery.conf.update(celery_options(settings))
        self._redis = redis.Redis.from_url(
            _client_url(settings.redis_url),
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_CONNECT_SECONDS,
            retry=None,
        )

    def publish(self, job_id: str) -> None:
        """Put a job's id on the queue. Raises QueueUnreachableError."""
        try:
            self._celery.send_task(RUN_JOB, [job_id])
        except (OperationalError, RedisError, OSError) as error:
            raise QueueUnreachableError(str(error)) from error

    def length(self) -> int:
        """How many ids lie on the queue that no worker has taken. Raises QueueUnreachableError."""
        try:
            return int(self._redis.llen(NAME))
        except RedisError as error:
            raise QueueUnreachableError(str(error)) from error

    def close(self) -> None:
        """Close the connections."""
        self._celery.close()
        self._redis.close()


def _broker_url(url: str) -> str:
    address = urlsplit(url)
    return f"redis+socket://{address.path}" if address.scheme == "unix" else url


def _client_url(url: str) -> str:
    return url.replace("redis+socket://", "unix://", 1)
