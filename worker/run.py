"""One delivery of a job id, from claim to settlement."""

from __future__ import annotations

import structlog
from sqlalchemy.orm import Session

from intrafusion.api import JobRequest, JobResult
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.gates import check_gates
from service.problems import problem_of
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.jobs import Claim, abandon_job, claim_job, find_job, release_job, settle_job
from service.store.records import DatasetRecord, ModelRecord
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
from worker.supervisor import Ending, Verdict, supervise

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
    if claim is None:
        log.info("nothing to claim", job_id=job_id)
        return False
    with structlog.contextvars.bound_contextvars(job_id=job_id, attempt=claim.attempt):
        log.info("job claimed", worker=worker)
        try:
            _work(claim, settings, database, blobs)
        except Exception:
            log.exception("the attempt failed on the worker's side")
            with database.write() as session:
                abandon_job(session, claim)
            raise
    return True


def _work(claim: Claim, settings: Settings, database: Database, blobs: Blobs) -> None:
    with database.read() as session:
        record = find_job(session, claim.job_id, tenant=None)
        assert record is not None
        request, tenant = JobRequest.model_validate(record.request), record.tenant
        looked_at = find_inspection(session, request.model) is not None
        structlog.contextvars.bind_contextvars(request_id=record.request_id)
    try:
        model, calibration, evaluation = _inputs(database, request, tenant)
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
        verdict = _run_process(folder, claim, settings, database)
        _keep_inspection(folder, database, request.model)
        results = None
        if verdict.ending is Ending.DONE:
            try:
                results = collect(folder, blobs, job_id=claim.job_id, request=request)
            except IntraFusionError as error:
                verdict = Verdict(Ending.FAILED, error)
    log.info("job ended", ending=verdict.ending.name.lower(), error=str(verdict.error or ""))
    with database.write() as session:
        match verdict.ending:
            case Ending.DONE:
                assert results is not None
                _succeed(session, claim, request, results)
            case Ending.FAILED:
                reason = verdict.error or IntraFusionError(ErrorCode.INTERNAL, "The job failed.")
                _fail(session, claim, reason)
            case Ending.CANCELLED:
                settle_job(session, claim, outcome="cancelled")
            case Ending.RELEASED:
                release_job(session, claim)
            case Ending.LOST:
                log.warning("the job was taken back while it ran")


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


def _succeed(session: Session, claim: Claim, request: JobRequest, results: Results) -> None:
    report = results.report
    result = JobResult(before=report.before, after=report.after, fidelity=report.fidelity)
    gates = None if request.gates is None else check_gates(request.gates, report)
    settle_job(
        session,
        claim,
        outcome="succeeded",
        result=result.model_dump(mode="json"),
        gates=None if gates is None else gates.model_dump(mode="json"),
        artifacts=results.artifacts,
    )


def _fail(session: Session, claim: Claim, reason: IntraFusionError) -> None:
    problem = problem_of(reason).model_dump(mode="json", exclude_none=True)
    settle_job(session, claim, outcome="failed", error=problem)


def _run_process(
    folder: JobFolder, claim: Claim, settings: Settings, database: Database
) -> Verdict:
    sandboxed = sandbox_works(settings)
    with JobProcess(
        job_command(settings, folder, sandboxed=sandboxed),
        environment=job_environment(settings, folder, sandboxed=sandboxed),
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
    return Input(sha256=record.sha256, kind=record.kind)
