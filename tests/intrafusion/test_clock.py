"""What listeners are told, and where the seconds go."""

from __future__ import annotations

import time

from intrafusion.clock import Clock
from intrafusion.report import Progress


def test_a_step_within_another_is_told_and_timed_for_itself() -> None:
    told: list[Progress] = []
    clock = Clock(told.append)
    with clock.step("plan", 3):
        clock.report(1, 3)
        with clock.step("fuse"):
            time.sleep(0.2)
        clock.report(2, 3)
    assert [(p.step, p.done, p.total) for p in told] == [
        ("plan", 0, 3),
        ("plan", 1, 3),
        ("fuse", 0, 1),
        ("fuse", 1, 1),
        ("plan", 2, 3),
        ("plan", 3, 3),
    ]
    assert clock.seconds["fuse"] >= 0.2
    assert clock.seconds["plan"] < 0.2


def test_what_was_begun_in_a_step_counts_there() -> None:
    clock = Clock(lambda progress: None, wait=lambda: time.sleep(0.2))
    with clock.step("fuse"):
        pass
    assert clock.seconds["fuse"] >= 0.2
