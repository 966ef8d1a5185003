"""The addresses of the page."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from intrafusion.api import PLAN_FILE, REPORT_FILE, Artifact, Event, Job, JobStatus
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.report import CompressionReport, PlanReport
from intrafusion.spec import METHODS
from service import jobs, submission
from service.api.compress import FORM_FILES, submit_form
from service.api.deps import Resources, ResourcesDep
from service.auth import COOKIE, authenticate, refuse_other_sites
from service.form_files import Layout, receive_form
from service.store.jobs import JobFilter
from service.web import forms, words
from service.web.charts import Point, curve, group_bars
from service.web.rendering import fill
from service.web.reports import report_points
from service.web.session import VisitorDep

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
static = StaticFiles(directory=Path(__file__).parent / "static")

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_ON_PAGE = 25
_ON_CURVE = 60
Told = TypeVar("Told", CompressionReport, PlanReport)
_STATES: tuple[JobStatus, ...] = ("queued", "running", "succeeded", "failed", "cancelled")


def render(template: str, /, *, code: int = 200, **values: Any) -> HTMLResponse:
    """A template as an answer that runs no script but our own and is shown in no other page."""
    return HTMLResponse(
        fill(template, **values),
        status_code=code,
        headers={
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


@router.get("/")
def home() -> Response:
    """The list of jobs is where people start."""
    return RedirectResponse("/jobs")


@router.get("/jobs")
def list_jobs(
    request: Request,
    resources: ResourcesDep,
    tenant: VisitorDep,
    status: Annotated[str, Query(max_length=16)] = "",
    label: Annotated[str, Query(max_length=300)] = "",
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The jobs, newest first."""
    only = JobFilter(
        statuses=[state for state in _STATES if state == status]
        + (["cancelling"] if status == "running" else []),
        metadata=_labels(label),
    )
    page = jobs.list_jobs(
        database=resources.database, tenant=tenant, cursor=cursor, limit=_ON_PAGE, only=only
    )
    return render(
        "jobs.html",
        page=page,
        status=status,
        label=label,
        states=_STATES,
        first=cursor is None,
        signed_in=COOKIE in request.cookies,
    )


def _labels(text: str) -> dict[str, str]:
    """`name:value` as a filter; a word alone is the value of `label`."""
    name, colon, value = text.strip().partition(":")
    if not text.strip():
        return {}
    return {name: value} if colon else {"label": name}


@router.get("/jobs/new")
def new_job(request: Request, tenant: VisitorDep) -> Response:
    """The form."""
    del tenant
    return _form(request)


def _form(request: Request, error: IntraFusionError | None = None, **fields: str) -> HTMLResponse:
    return render(
        "new.html",
        code=error.code.status if error else 200,
        error=error,
        fields=fields,
        methods=METHODS,
        budgets=forms.BUDGETS,
        signed_in=COOKIE in request.cookies,
    )


@router.post("/jobs/new")
async def submit_job(request: Request, resources: ResourcesDep, tenant: VisitorDep) -> Response:
    """Take the form; what is wrong with it is said above it."""
    layout = Layout(
        files=tuple(FORM_FILES),
        fields=forms.FIELDS,
        limit=resources.settings.max_upload_bytes,
    )
    fields: dict[str, str] = {}
    with ExitStack() as cleaning:
        try:
            received = await receive_form(request, resources.blobs, cleaning, layout)
            for name, text in received.fields.items():
                fields[name] = text.decode(errors="replace").strip()
            made = await run_in_threadpool(
                submit_form,
                received,
                forms.settings_of(fields),
                resources,
                tenant,
                idempotency_key=None,
            )
        except IntraFusionError as error:
            return _form(request, error, **fields)
    resources.upkeep.wake()
    return _see(made.job)


@router.get("/jobs/{job_id}")
async def show_job(
    job_id: str, request: Request, resources: ResourcesDep, tenant: VisitorDep
) -> Response:
    """One job: its progress, or what came of it."""
    job, events, artifacts, alike = await run_in_threadpool(_look_at, resources, tenant, job_id)
    report = await _read(resources, artifacts, REPORT_FILE, CompressionReport)
    plan = await _read(resources, artifacts, PLAN_FILE, PlanReport)
    told = report or plan
    return render(
        "job.html",
        job=job,
        events=events,
        artifacts=artifacts,
        report=report,
        plan=plan,
        bars=group_bars(told.groups) if told else [],
        curve=curve(list(report_points(report, _points(job, alike)))) if report else None,
        signed_in=COOKIE in request.cookies,
    )


Seen = tuple[Job, list[Event], list[Artifact], list[Job]]


def _look_at(resources: Resources, tenant: str, job_id: str) -> Seen:
    database = resources.database
    job = jobs.get_job(database=database, tenant=tenant, id=job_id)
    events = jobs.list_events(database=database, tenant=tenant, id=job_id, after=0, limit=500)
    artifacts = jobs.list_artifacts(database=database, tenant=tenant, id=job_id)
    alike = jobs.list_jobs(
        database=database,
        tenant=tenant,
        cursor=None,
        limit=_ON_CURVE,
        only=JobFilter(statuses=("succeeded",), model=job.model),
    )
    return job, events.data, artifacts.data, alike.data


async def _read(
    resources: Resources, artifacts: list[Artifact], name: str, kind: type[Told]
) -> Told | None:
    """The artifact called `name` as a `kind`, if there is one."""
    for artifact in artifacts:
        if artifact.name == name:
            chunks = resources.blobs.stream(artifact.sha256, 0, artifact.bytes)
            return kind.model_validate_json(b"".join([c async for c in chunks]))
    return None


def _points(job: Job, alike: list[Job]) -> Iterable[Point]:
    """Other jobs on the same model and samples."""
    for other in alike:
        result = other.result
        if other.id == job.id or other.evaluation != job.evaluation or result is None:
            continue
        if result.after.accuracy is not None:
            yield Point(
                result.after.parameters,
                result.after.accuracy,
                f"{other.spec['method']}, {words.ago(other.queued_at)}",
                "job",
                f"/jobs/{other.id}",
            )


@router.post("/jobs/{job_id}/cancel")
def cancel_job(job_id: str, resources: ResourcesDep, tenant: VisitorDep) -> Response:
    """Stop it, and show it."""
    return _see(jobs.cancel_job(database=resources.database, tenant=tenant, id=job_id))


@router.post("/jobs/{job_id}/retry")
def retry_job(job_id: str, resources: ResourcesDep, tenant: VisitorDep) -> Response:
    """Repeat it, and show the new one."""
    return _again(job_id, resources, tenant)


@router.post("/jobs/{job_id}/compress")
def compress_as_planned(job_id: str, resources: ResourcesDep, tenant: VisitorDep) -> Response:
    """Do what it planned, and show the new one."""
    return _again(job_id, resources, tenant, in_earnest=True)


def _again(job_id: str, resources: Resources, tenant: str, *, in_earnest: bool = False) -> Response:
    made = submission.retry_job(
        database=resources.database,
        tenant=tenant,
        id=job_id,
        idempotency_key=None,
        idempotency_hours=resources.settings.idempotency_hours,
        quota=resources.settings.quota_queued_jobs,
        in_earnest=in_earnest,
    )
    resources.upkeep.wake()
    return _see(made.job)


@router.post("/jobs/{job_id}/delete")
def delete_job(job_id: str, resources: ResourcesDep, tenant: VisitorDep) -> Response:
    """Forget it, and show the others."""
    jobs.delete_job(database=resources.database, tenant=tenant, id=job_id)
    return RedirectResponse("/jobs", status_code=303)


@router.get("/sign-in")
def sign_in_form() -> Response:
    """Where a visitor without a key is led."""
    return render("sign_in.html", error=None, signed_in=False)


@router.post("/sign-in")
async def sign_in(request: Request, resources: ResourcesDep) -> Response:
    """Keep a key that is right in a cookie that scripts and other sites do not get."""
    refuse_other_sites(request)
    async with request.form(max_files=0, max_fields=2) as form:
        key = str(form.get("key", "")).strip()
    try:
        await run_in_threadpool(
            authenticate, database=resources.database, settings=resources.settings, key=key
        )
    except IntraFusionError as error:
        return render("sign_in.html", code=error.code.status, error=error, signed_in=False)
    response = RedirectResponse("/jobs", status_code=303)
    response.set_cookie(
        COOKIE, key, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return response


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """Forget the key."""
    refuse_other_sites(request)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(COOKIE)
    return response


def _see(job: Job) -> Response:
    return RedirectResponse(f"/jobs/{job.id}", status_code=303)


def answer_error(error: IntraFusionError, request: Request) -> Response | None:
    """What a visitor sees where something goes wrong; without a key the way to sign in.

    None for an address that does not belong to the page.
    """
    path = request.url.path
    if path != "/" and not path.startswith(("/jobs", "/sign-")):
        return None
    if error.code is ErrorCode.UNAUTHENTICATED:
        return RedirectResponse("/sign-in", status_code=303)
    return render(
        "error.html", code=error.code.status, error=error, signed_in=COOKIE in request.cookies
    )
