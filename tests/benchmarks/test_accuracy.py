"""What the table of benchmarks.accuracy says, and which promises it finds broken."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.accuracy.methods import OURS, OURS_EQUAL
from benchmarks.accuracy.rows import Row
from benchmarks.accuracy.table import as_markdown, missed

BEFORE = Row("fashion_vgg", "original", "", "", 0.0, [0.92], 1000, 2000, 0.0)
GOOD = Row("fashion_vgg", OURS, "", "none", 0.5, [0.91, 0.90], 250, 800, 3.0)
EQUAL = replace(GOOD, method=OURS_EQUAL, macs=500, accuracies=[0.90], latency=0.3)
PEER = replace(GOOD, method="A peer", choice="its best", accuracies=[0.5], macs=500)


def test_the_mean_the_range_and_what_is_left_are_shown() -> None:
    table = as_markdown([BEFORE, GOOD, EQUAL, PEER], "a machine")
    assert "1.50 [1.00, 2.00] (25% / 40%)" in table
    assert "2.00 (25% / 25% / 30%)" in table
    assert "42.00 (25% / 25%, its best)" in table
    assert "Promises not kept" not in table


def test_losses_over_the_promise_and_better_peers_are_named() -> None:
    poor = replace(GOOD, accuracies=[0.88])
    (fault,) = missed([BEFORE, poor, PEER])
    assert "lost 4.00 points, more than 3" in fault
    ahead = replace(PEER, accuracies=[0.905])
    (fault,) = missed([BEFORE, GOOD, replace(EQUAL, accuracies=[0.9]), ahead])
    assert OURS_EQUAL in fault
    assert "A peer only 1.50" in fault
    elsewhere = replace(ahead, data="unlabelled", accuracies=[0.92])
    assert missed([BEFORE, GOOD, elsewhere]) == []
