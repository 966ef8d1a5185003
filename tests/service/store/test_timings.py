from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from service.store.database import Database
from service.store.timings import BOUNDS, add_timing, list_timings
from tests.service.conftest import ON_BOTH_DATABASES


@ON_BOTH_DATABASES
def test_every_timing_is_counted_once_though_many_workers_count(database: Database) -> None:
    def count(seconds: float) -> None:
        with database.write() as session:
            add_timing(session, "step", seconds, label="fuse")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, [0.07, 0.07, 1.0, 9000.0] * 10))
    with database.read() as session:
        (found,) = list_timings(session)
    assert (found.timed, found.label) == ("step", "fuse")
    assert list(found.counts) == list(BOUNDS)
    assert [found.counts[bound] for bound in ("0.05", "0.1", "0.5", "1.0", "7200.0", "+Inf")] == [
        *(0, 20, 20, 30, 30, 40)
    ]
    assert abs(found.seconds - 90_011.4) < 1e-6


@ON_BOTH_DATABASES
def test_histograms_are_kept_apart(database: Database) -> None:
    with database.write() as session:
        for label, seconds in (("load", 0.2), ("fuse", 0.3), ("load", 0.4)):
            add_timing(session, "step", seconds, label=label)
        add_timing(session, "queue_wait", 0.01)
    with database.read() as session:
        found = {(t.timed, t.label): t.counts["+Inf"] for t in list_timings(session)}
    assert found == {("queue_wait", ""): 1, ("step", "fuse"): 1, ("step", "load"): 2}
