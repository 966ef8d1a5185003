"""One delivery of a job id, from claim to settlement."""

from __future__ import annotations

from dataclasses import replace

import structlog
from sqlalchemy.orm import Session

from intrafusion.api import JobRequest
from intrafusion.errors import ErrorCode, IntraFusionError
from service.problems import problem_of
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.jobs import Claim, abandon_job, claim_job, find_job, release_job, settle_job
from service.store.records import DatasetRecord, JobRecord, ModelRecord
from service.store.timings import add_timing
from service.store.uploads import Upload, find_inspection, find_upload, keep_inspection
from worker.folder import (
    Input,
    JobFolder,
    Results,
    collect,
    inspection_of,
    job_folder,
    lay_out,
)
from worker.process import JobProcess
from worker.sandbox import job_command, job_environment, job_limits, sandbox_works
from worker.steps import seconds_by_step
from worker.supervisor import Ending, Verdict, supervise
from worker.tracing import trace_job

log = structlog.get_logger()


def run_delivered(
    job_id: str, *, settings: Settings, database: Database, blobs: Blobs, worker: str
) -> bool:
    """Run the job if it is there to be taken; returns whether it was.

    An id may be delivered any number of times. Whatever goes wrong with the job itself ends
    in its record; a failing database, disk or blob store raises and costs the attempt.
    """
    with database.write() as session:
        claim = claim_job(session, id=job_id, worker=worker, lease_seconds=settings.lease_seconds)
        record = None if claim is None else find_job(session, job_id, tenant=None)
        if record is not None and record.attempt == 1:
            add_timing(session, "queue_wait", _seconds_waited(record))
    if claim is None or record is None:
        log.info("nothing to claim", job_id=job_id)
        return False
    ids = {"job_id": job_id, "attempt": claim.attempt, "request_id": record.request_id}
    with structlog.contextvars.bound_contextvars(**ids):
        log.info("job claimed", worker=worker)
        try:
            _work(claim, record, settings, database, blobs)
        except Exception:
            log.exception("the attempt failed on the worker's side")
            with database.write() as session:
                abandon_job(session, claim)
            raise
    return True


def _seconds_waited(record: JobRecord) -> float:
    assert record.started_at is not None
    return max(0.0, (record.started_at - record.queued_at).total_seconds())


def _work(
    claim: Claim, record: JobRecord, settings: Settings, database: Database, blobs: Blobs
) -> None:
    request = JobRequest.model_validate(record.request)
    with database.read() as session:
        looked_at = find_inspection(session, request.model) is not None
    try:
        model, calibration, evaluation = _inputs(database, request, record.tenant)
    except IntraFusionError as error:
        with database.write() as session:
            _fail(session, claim, error)
        return
    with job_folder(settings.jobs_folder / f"{claim.job_id}-{claim.attempt}") as folder:
        lay_out(
            folder,
            blobs,
            request=request,
            model=model,
            calibration=calibration,
            evaluation=evaluation,
            inspect=not looked_at,
        )
        verdict = _run_process(folder, claim, record, settings, database)
        _keep_inspection(folder, database, request.model)
        results = None
        if verdict.ending is Ending.DONE:
            try:
                results = collect(
                    folder, blobs, job_id=claim.job_id, request=request, model_name=model.name
                )
            except IntraFusionError as error:
                verdict = replace(verdict, ending=Ending.FAILED, error=error)
    with database.write() as session:
        match verdict.ending:
            case Ending.DONE:
                assert results is not None
                _succeed(session, claim, results)
            case Ending.FAILED:
                reason = verdict.error or IntraFusionError(ErrorCode.INTERNAL, "The job failed.")
                _fail(session, claim, reason)
            case Ending.CANCELLED:
                settle_job(session, claim, outcome="cancelled")
            case Ending.RELEASED:
                release_job(session, claim)
            case Ending.LOST:
                log.warning("the job was taken back while it ran")
    _tell(verdict, claim, record, database)


def _tell(verdict: Verdict, claim: Claim, record: JobRecord, database: Database) -> None:
    """Log how the attempt ended and how long its steps took, count that, and trace it."""
    ending, error = verdict.ending.name.lower(), verdict.error
    seconds = seconds_by_step(verdict.steps)
    log.info(
        "job ended",
        ending=ending,
        error=str(error or ""),
        seconds={step: round(value, 3) for step, value in seconds.items()},
    )
    with database.write() as session:
        for step in sorted(seconds):  # the same order in all workers: none waits in a circle
            add_timing(session, "step", seconds[step], label=step)
    attributes: dict[str, str | int] = {
        "job_id": claim.job_id,
        "attempt": claim.attempt,
        "worker": claim.worker,
        "tenant": record.tenant,
        "ending": ending,
    }
    if record.request_id is not None:
        attributes["request_id"] = record.request_id
    trace_job(
        verdict.steps,
        traceparent=record.traceparent,
        attributes=attributes,
        error=None if error is None else error.message,
    )


def _keep_inspection(folder: JobFolder, database: Database, model_id: str) -> None:
    """Note what the job found in its model, also where it failed afterwards."""
    try:
        found = inspection_of(folder)
    except IntraFusionError as error:
        log.warning("the job wrote no usable inspection", reason=str(error))
        return
    if found is not None:
        with database.write() as session:
            keep_inspection(session, model_id, found.model_dump(mode="json"))


def _succeed(session: Session, claim: Claim, results: Results) -> None:
    gates = results.gates
    settle_job(
        session,
        claim,
        outcome="succeeded",
        result=results.result.model_dump(mode="json"),
        gates=None if gates is None else gates.model_dump(mode="json"),
        artifacts=results.artifacts,
    )


def _fail(session: Session, claim: Claim, reason: IntraFusionError) -> None:
    problem = problem_of(reason).model_dump(mode="json", exclude_none=True)
    settle_job(session, claim, outcome="failed", error=problem)


def _run_process(
    folder: JobFolder, claim: Claim, record: JobRecord, settings: Settings, database: Database
) -> Verdict:
    sandboxed = sandbox_works(settings)
    ids = {
        "INTRAFUSION_JOB_ID": claim.job_id,
        "INTRAFUSION_REQUEST_ID": record.request_id or "",
    }  # for what users' own architectures and criteria log
    with JobProcess(
        job_command(settings, folder, sandboxed=sandboxed),
        environment=job_environment(settings, folder, sandboxed=sandboxed) | ids,
        limits=job_limits(settings),
    ) as process:
        return supervise(process, settings=settings, database=database, claim=claim)


def _inputs(
    database: Database, request: JobRequest, tenant: str
) -> tuple[Input, Input | None, Input | None]:
    """The uploads that the job reads. Raises `NOT_FOUND` for one deleted as the job was queued."""
    calibration, evaluation = request.calibration, request.evaluation
    with database.read() as session:
        return (
            _input(session, ModelRecord, request.model, tenant),
            None if calibration is None else _input(session, DatasetRecord, calibration, tenant),
            None if evaluation is None else _input(session, DatasetRecord, evaluation, tenant),
        )


def _input(session: Session, table: type[Upload], id: str, tenant: str) -> Input:  # noqa: A002
    record = find_upload(session, table, id, tenant=tenant)
    if record is None:
        raise IntraFusionError(
            ErrorCode.NOT_FOUND,
            f"{id} was deleted.",
            "Upload it again and submit a new job.",
            id=id,
        )
    return Input(sha256=record.sha256, kind=record.kind, name=record.name or id)
