"""Watches over one job process: relays its events, keeps its lease, ends it when it must end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from intrafusion.errors import ErrorCode, IntraFusionError
from service.settings import MiB, Settings
from service.store.database import Database
from service.store.events import EventKind, add_event
from service.store.jobs import Claim, cancel_requested, record_progress, renew_lease
from service.store.workers import is_draining
from worker.messages import (
    MESSAGE,
    DoneMessage,
    ErrorMessage,
    LogMessage,
    MetricMessage,
    ProgressMessage,
)
from worker.process import JobProcess, Source
from worker.sandbox import job_memory
from worker.steps import Stopwatch, TimedStep

log = structlog.get_logger()

_MAX_LINES = 500
_LINE_LENGTH = 2000


class Ending(Enum):
    """How the watch over a job process ended."""

    DONE = auto()
    """It wrote its results."""
    FAILED = auto()
    """It failed, or was ended for breaking a limit."""
    CANCELLED = auto()
    """Its cancellation was asked for."""
    RELEASED = auto()
    """The worker is stopping; another one is to begin anew."""
    LOST = auto()
    """The claim no longer holds: the job belongs to someone else."""


@dataclass(frozen=True)
class Verdict:
    """How it ended, and the error of a job that failed."""

    ending: Ending
    error: IntraFusionError | None = None
    steps: Sequence[TimedStep] = ()
    """What the process did, and how long each took."""


@dataclass
class _Watch:
    """What has been heard from the process, and what of it is not yet stored."""

    done: bool = False
    error: IntraFusionError | None = None
    lines: int = 0
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    progress: dict[str, Any] | None = None
    events: list[tuple[EventKind, dict[str, Any]]] = field(default_factory=list)


def supervise(
    process: JobProcess, *, settings: Settings, database: Database, claim: Claim
) -> Verdict:
    """Watch until the process ends or has to be ended; it does not live on afterwards.

    Every `poll_seconds` new events are stored, the lease is renewed when a third of it has
    passed, and cancellation, the worker's own end, wall time and memory are looked at.
    """
    watch = _Watch()
    verdict = _watch(watch, process, settings, database, claim)
    return replace(verdict, steps=watch.stopwatch.stop())


def _watch(
    watch: _Watch, process: JobProcess, settings: Settings, database: Database, claim: Claim
) -> Verdict:
    began = checked = time.monotonic()
    renewed = began
    while not process.ended:
        for source, line in process.listen(settings.poll_seconds):
            _hear(watch, source, line)
        moment = time.monotonic()
        if moment - checked < settings.poll_seconds:
            continue
        checked = moment
        verdict = _broken_limit(process, settings, moment - began)
        if verdict is None:
            due = moment - renewed >= settings.lease_seconds / 3
            try:
                verdict = _consult(watch, settings, database, claim, renew=due)
            except SQLAlchemyError as error:
                log.warning("the database failed", job_id=claim.job_id, reason=str(error))
                lapsed = moment - renewed >= settings.lease_seconds
                verdict = Verdict(Ending.LOST) if lapsed else None
            else:
                renewed = moment if due else renewed
        if verdict is not None:
            process.kill()
            _store(watch, database, claim)
            return verdict
    for source, line in process.last_words():
        _hear(watch, source, line)
    _store(watch, database, claim)
    return _conclude(watch, process)


def _hear(watch: _Watch, source: Source, line: str) -> None:
    if source == "output":
        _note_line(watch, line)
        return
    try:
        message = MESSAGE.validate_json(line)
    except ValidationError:
        _note_line(watch, f"unreadable event: {line[:200]}")
        return
    match message:
        case ProgressMessage():
            watch.stopwatch.enter(message.step)
            watch.progress = message.model_dump(exclude={"kind"})
            last = watch.events[-1] if watch.events else None
            if last is not None and last[0] == "progress" and last[1]["step"] == message.step:
                watch.events.pop()  # between two looks only the newest of a step counts
            watch.events.append(("progress", watch.progress))
        case MetricMessage():
            if watch.lines < _MAX_LINES:
                watch.lines += 1
                watch.events.append(("metric", message.model_dump(exclude={"kind"})))
        case LogMessage():
            _note_line(watch, message.text)
        case ErrorMessage():
            watch.error = IntraFusionError(
                ErrorCode.from_code(message.code), message.message, message.hint
            )
            watch.error.details = message.details
        case DoneMessage():
            watch.done = True


def _note_line(watch: _Watch, text: str) -> None:
    """Keep a line the job printed; a job that prints without end is heard only so long."""
    watch.lines += 1
    if watch.lines <= _MAX_LINES:
        said = text[:_LINE_LENGTH].replace("\x00", "�")
        watch.events.append(("log", {"text": said}))
        log.info("the job said", text=said)
    elif watch.lines == _MAX_LINES + 1:
        watch.events.append(("log", {"text": "further lines are left out"}))


def _broken_limit(process: JobProcess, settings: Settings, seconds: float) -> Verdict | None:
    if seconds > settings.job_seconds:
        return _failed(
            ErrorCode.TIME_LIMIT,
            f"The job ran for {settings.job_seconds} seconds, which is all it may.",
            "Use a smaller calibration set, or have the operator raise INTRAFUSION_JOB_SECONDS.",
        )
    allowed = job_memory(settings)
    if process.memory() > allowed:
        return _out_of_memory(f"The job used more than the {allowed // MiB:,} MiB it may.")
    return None


def _consult(
    watch: _Watch, settings: Settings, database: Database, claim: Claim, *, renew: bool
) -> Verdict | None:
    """Bring the records up to date with the job, and learn from them what became of it."""
    if renew or watch.events:
        with database.write() as session:
            if not renew_lease(session, claim, lease_seconds=settings.lease_seconds):
                return Verdict(Ending.LOST)
            _write_events(session, watch, claim)
        watch.events.clear()
    with database.read() as session:
        cancelled = cancel_requested(session, claim)
        draining = is_draining(session, claim.worker)
    if cancelled is None:
        return Verdict(Ending.LOST)
    if cancelled:
        return Verdict(Ending.CANCELLED)
    return Verdict(Ending.RELEASED) if draining else None


def _store(watch: _Watch, database: Database, claim: Claim) -> None:
    if not watch.events:
        return
    with database.write() as session:
        if cancel_requested(session, claim) is not None:
            _write_events(session, watch, claim)
    watch.events.clear()


def _write_events(session: Session, watch: _Watch, claim: Claim) -> None:
    if watch.progress is not None:
        record_progress(session, claim, watch.progress)
    for kind, data in watch.events:
        add_event(session, job_id=claim.job_id, kind=kind, data=data)


def _conclude(watch: _Watch, process: JobProcess) -> Verdict:
    if watch.error is not None:
        return Verdict(Ending.FAILED, watch.error)
    if watch.done and process.exit_code == 0:
        return Verdict(Ending.DONE)
    ended_by = process.exit_signal
    if ended_by is not None and ended_by.name == "SIGKILL":
        return _out_of_memory("The system killed the job, most likely because memory ran out.")
    how = ended_by.name if ended_by is not None else f"exit code {process.exit_code}"
    return _failed(
        ErrorCode.JOB_CRASHED,
        f"The job process ended without a result ({how}).",
        "The job's events hold what it printed last. If the network runs elsewhere, report it.",
    )


def _out_of_memory(message: str) -> Verdict:
    hint = "Use fewer samples, or have the operator raise INTRAFUSION_JOB_MEMORY_BYTES."
    return _failed(ErrorCode.OUT_OF_MEMORY, message, hint)


def _failed(code: ErrorCode, message: str, hint: str) -> Verdict:
    return Verdict(Ending.FAILED, IntraFusionError(code, message, hint))
