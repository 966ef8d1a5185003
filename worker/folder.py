"""The folder of one job: inputs it may read, and two folders it may write."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from intrafusion.api import PLAN_FILE, REPORT_FILE, GateOutcome, JobRequest, JobResult
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.gates import check_gates
from intrafusion.report import CompressionReport, InspectionReport, PlanReport
from service.store.blobs import Blob, Blobs
from service.store.records import ArtifactRecord
from service.web.reports import report_page
from worker.messages import INSPECTION, MODEL_OUTPUTS, ORDER, REPORT_PAGE, Order

_SUFFIXES = {
    "torchscript": ".pt",
    "state_dict": ".pt",
    "exported": ".pt2",
    "safetensors": ".safetensors",
    "npz": ".npz",
}
_MEDIA_TYPES = {".json": "application/json", ".html": "text/html; charset=utf-8"}
_MAX_REPORT_BYTES = 64 * 1024**2

Report = TypeVar("Report", CompressionReport, InspectionReport, PlanReport)


@dataclass(frozen=True)
class Input:
    """An upload a job reads: the SHA-256 of its bytes, its kind, and what people call it."""

    sha256: str
    kind: str
    name: str


@dataclass(frozen=True)
class JobFolder:
    """Where one attempt of a job happens."""

    root: Path

    @property
    def inputs(self) -> Path:
        """What the job reads: its order and its uploads."""
        return self.root / "inputs"

    @property
    def out(self) -> Path:
        """Where the job writes its results."""
        return self.root / "out"

    @property
    def tmp(self) -> Path:
        """Where the job writes what nobody else needs."""
        return self.root / "tmp"


@contextmanager
def job_folder(path: Path) -> Iterator[JobFolder]:
    """A fresh folder at `path`, removed at the end together with all that lies in it."""
    _remove(path)
    folder = JobFolder(path)
    for part in (folder.inputs, folder.out, folder.tmp):
        part.mkdir(parents=True)
    try:
        yield folder
    finally:
        _remove(path)


def lay_out(
    folder: JobFolder,
    blobs: Blobs,
    *,
    request: JobRequest,
    model: Input,
    calibration: Input | None,
    evaluation: Input | None,
    inspect: bool,
) -> None:
    """Put the order and the uploads into the inputs folder."""

    def place(name: str, upload: Input | None) -> str | None:
        if upload is None:
            return None
        file = name + _SUFFIXES.get(upload.kind, "")
        blobs.fetch(upload.sha256, folder.inputs / file)
        return file

    order = Order(
        request=request,
        model=place("model", model) or "",
        calibration=place("calibration", calibration),
        evaluation=place("evaluation", evaluation),
        inspect=inspect,
    )
    (folder.inputs / ORDER).write_text(order.model_dump_json())


@dataclass(frozen=True)
class Results:
    """What came of a job: in short, of its gates, and its files as they were stored."""

    result: JobResult
    gates: GateOutcome | None
    artifacts: list[ArtifactRecord]


def collect(
    folder: JobFolder, blobs: Blobs, *, job_id: str, request: JobRequest, model_name: str
) -> Results:
    """Store the results the job was asked for and its report, also as a page, and describe them.

    Of a dry run that is its plan. Raises `INTERNAL` where the job left one out or wrote something
    that is none.
    """
    if request.dry_run:
        plan = _report(folder, PLAN_FILE, PlanReport)
        result = JobResult(before=plan.before, after=plan.after)
        return Results(result, None, [_store(folder, blobs, job_id, PLAN_FILE)])
    wanted = [MODEL_OUTPUTS[output] for output in request.outputs]
    report = _report(folder, REPORT_FILE, CompressionReport)
    names = dict.fromkeys([*wanted, REPORT_FILE])
    artifacts = [_store(folder, blobs, job_id, name) for name in names]
    try:
        page = report_page(report, name=model_name, job_id=job_id)
    except (ArithmeticError, ValueError) as error:
        raise _bad_result(REPORT_FILE, "its numbers cannot be drawn") from error
    artifacts.append(_record(job_id, REPORT_PAGE, blobs.adopt(io.BytesIO(page.encode()))))
    result = JobResult(before=report.before, after=report.after, fidelity=report.fidelity)
    gates = None if request.gates is None else check_gates(request.gates, report)
    return Results(result, gates, artifacts)


def inspection_of(folder: JobFolder) -> InspectionReport | None:
    """What the job found in its model; None where it did not come so far.

    Raises `INTERNAL` where what it wrote is no such report.
    """
    if not (folder.out / INSPECTION).exists():
        return None
    return _report(folder, INSPECTION, InspectionReport)


def _report(folder: JobFolder, name: str, kind: type[Report]) -> Report:
    with _result(folder, name) as file:
        text = file.read(_MAX_REPORT_BYTES + 1)
    if len(text) > _MAX_REPORT_BYTES:
        raise _bad_result(name, "it is too large")
    try:
        json.loads(text, parse_float=_finite, parse_constant=_finite)
        if b"\\u0000" in text:
            raise ValueError("a NUL character")
        return kind.model_validate_json(text)
    except ValueError as error:
        raise _bad_result(name, "it is no report") from error


def _finite(number: str) -> float:
    """A number that any database can keep. Raises ValueError."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(number)
    return value


def _store(folder: JobFolder, blobs: Blobs, job_id: str, name: str) -> ArtifactRecord:
    with _result(folder, name) as file:
        return _record(job_id, name, blobs.adopt(file))


def _record(job_id: str, name: str, blob: Blob) -> ArtifactRecord:
    media_type = _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
    return ArtifactRecord(
        job_id=job_id, name=name, sha256=blob.sha256, bytes=blob.bytes, media_type=media_type
    )


@contextmanager
def _result(folder: JobFolder, name: str) -> Iterator[BinaryIO]:
    """A result, opened without following links: the job might point one at what it cannot read."""
    try:
        handle = os.open(folder.out / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _bad_result(name, error.strerror or "it cannot be opened") from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise _bad_result(name, "it is no plain file")
        yield file


def _bad_result(name: str, reason: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.INTERNAL,
        f"The job ended without a usable {name}: {reason}.",
        "Look into the job's events, and please report it.",
    )


def _remove(path: Path) -> None:
    def unlock(function: object, name: str, error: object) -> None:
        with suppress(OSError):
            Path(name).parent.chmod(stat.S_IRWXU)
            shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()

    shutil.rmtree(path, onerror=unlock)
