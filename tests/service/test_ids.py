from __future__ import annotations

import re
import time

from service.ids import new_id


def test_ids_have_a_prefix_and_sort_by_time() -> None:
    first = new_id("job")
    time.sleep(0.002)
    second = new_id("job")
    assert first < second
    assert re.fullmatch(r"job_[0-9a-z]{26}", first)


def test_ids_of_one_moment_differ() -> None:
    assert len({new_id("data") for _ in range(1000)}) == 1000
