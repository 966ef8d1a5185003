"""So many requests a minute for each tenant, counted in Redis for all API processes together."""

from __future__ import annotations

import math
import time
from typing import Any

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

from intrafusion.errors import ErrorCode, IntraFusionError
from service.auth import with_headers

log = structlog.get_logger()

_TIMEOUT_SECONDS = 1
_PAUSE_SECONDS = 10.0


class RateLimit:
    """A limit that API processes share by the Redis at `redis_url`.

    While Redis is away each process counts by itself: requests go on being answered, and being
    limited, though several processes then let more of them through.
    """

    def __init__(self, per_minute: int, redis_url: str) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        options: dict[str, Any] = {
            "socket_connect_timeout": _TIMEOUT_SECONDS,
            "socket_timeout": _TIMEOUT_SECONDS,
            "retry": None,
        }
        address = redis_url.replace("unix://", "redis+unix://", 1)
        shared = RedisStorage(address, key_prefix="intrafusion", **options)
        self._shared = SlidingWindowCounterRateLimiter(shared)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._away_until = 0.0

    def take(self, tenant: str) -> dict[str, str]:
        """Count a request; returns the headers that tell how many are left.

        Raises `TOO_MANY_REQUESTS` with `Retry-After` when none is.
        """
        granted, left, reset = self._count(tenant)
        seconds = max(1, math.ceil(reset - time.time()))
        headers = {
            "RateLimit-Policy": f'"requests";q={self._item.amount};w=60',
            "RateLimit": f'"requests";r={left if granted else 0};t={seconds}',
        }
        if granted:
            return headers
        raise with_headers(
            IntraFusionError(
                ErrorCode.TOO_MANY_REQUESTS,
                f"More than {self._item.amount} requests came within a minute.",
                f"Go on in {seconds} seconds; wait for jobs with ?wait= or a stream of events.",
            ),
            headers | {"Retry-After": str(seconds)},
        )

    def _count(self, tenant: str) -> tuple[bool, int, float]:
        """Whether it is one of those allowed, how many are left, and until when they must do."""
        if time.monotonic() >= self._away_until:
            try:
                return self._count_with(self._shared, tenant)
            except RedisError as error:
                self._away_until = time.monotonic() + _PAUSE_SECONDS
                log.warning("requests are counted by each process", reason=str(error))
        return self._count_with(self._own, tenant)

    def _count_with(
        self, limiter: SlidingWindowCounterRateLimiter, tenant: str
    ) -> tuple[bool, int, float]:
        granted = limiter.hit(self._item, tenant)
        window = limiter.get_window_stats(self._item, tenant)
        return granted, window.remaining, window.reset_time
