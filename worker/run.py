"""One delivery of a job id, from claim to settlement."""

from __future__ import annotations

import structlog
from sqlalchemy.orm import Session

from intrafusion.api import JobRequest
from intrafusion.errors import ErrorCode, IntraFusionError
from service.problems import problem_of
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.jobs import Claim, abandon_job, claim_job, find_job, release_job, settle_job
from service.store.records import DatasetRecord, ModelRecord
from service.store.uploads import Upload, find_upload
from worker.folder import Input, JobFolder, collect, job_folder, lay_out
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
        record = find_job(session, claim.job_id)
        assert record is not None
        request = JobRequest.model_validate(record.request)
        model = _input(session, ModelRecord, request.model)
        calibration = _input(session, DatasetRecord, request.calibration)
        evaluation = _input(session, DatasetRecord, request.evaluation)
    assert model is not None
    with job_folder(settings.jobs_folder / f"{claim.job_id}-{claim.attempt}") as folder:
        lay_out(
            folder,
            blobs,
            request=request,
            model=model,
            calibration=calibration,
            evaluation=evaluation,
        )
        verdict = _run_process(folder, claim, settings, database)
        artifacts = []
        if verdict.ending is Ending.DONE:
            try:
                artifacts = collect(folder, blobs, job_id=claim.job_id, request=request)
            except IntraFusionError as error:
                verdict = Verdict(Ending.FAILED, error)
    log.info("job ended", ending=verdict.ending.name.lower(), error=str(verdict.error or ""))
    with database.write() as session:
        match verdict.ending:
            case Ending.DONE:
                settle_job(session, claim, outcome="succeeded", artifacts=artifacts)
            case Ending.FAILED:
                reason = verdict.error or IntraFusionError(ErrorCode.INTERNAL, "The job failed.")
                problem = problem_of(reason).model_dump(mode="json", exclude_none=True)
                settle_job(session, claim, outcome="failed", error=problem)
            case Ending.CANCELLED:
                settle_job(session, claim, outcome="cancelled")
            case Ending.RELEASED:
                release_job(session, claim)
            case Ending.LOST:
                log.warning("the job was taken back while it ran")


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


def _input(
    session: Session,
    table: type[Upload],
    id: str | None,  # noqa: A002
) -> Input | None:
    if id is None:
        return None
    record = find_upload(session, table, id)
    assert record is not None  # the job's row refers to it
    return Input(sha256=record.sha256, kind=record.kind)
