from __future__ import annotations

from pathlib import Path

import pytest

from intrafusion.errors import ErrorCode, IntraFusionError
from service.rate_limit import RateLimit
from service.redis_server import own_redis
from tests.servers import start_redis


def test_processes_count_together_and_by_themselves_while_redis_is_away(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    server = start_redis(home)
    url = own_redis(home).url
    first, second = RateLimit(3, url), RateLimit(3, url)
    try:
        for limit in (first, second, first):
            limit.take("anna")
        for limit in (first, second):
            with pytest.raises(IntraFusionError) as refusal:
                limit.take("anna")
            assert refusal.value.code is ErrorCode.TOO_MANY_REQUESTS
        first.take("boris")
    finally:
        server.stop()
    for limit in (first, second):
        for left in (2, 1, 0):
            assert f"r={left};" in limit.take("anna")["RateLimit"]
        with pytest.raises(IntraFusionError):
            limit.take("anna")
