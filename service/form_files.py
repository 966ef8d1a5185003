"""A form with files and fields: files go to disk as they arrive, fields are short."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field

from starlette.requests import Request

from intrafusion.errors import ErrorCode, IntraFusionError
from service.body import Body
from service.form import Form, PartBegins, PartData, PartEnds, form_boundary, form_error
from service.incoming import FileWriter
from service.store.blobs import Blobs, Incoming

_MAX_FIELDS_BYTES = 1024**2
_HINT = (
    "Send it as curl does with --form file=@model.pt --form 'spec={\"sparsity\": 0.5}' "
    "--form calibration=@samples.npz."
)


@dataclass(frozen=True)
class Layout:
    """The names of the form's files and fields, and the most bytes of one file."""

    files: Collection[str]
    fields: Collection[str]
    limit: int


@dataclass
class Received:
    """The parts of a form: files on disk with their names, and fields as they were written."""

    files: dict[str, tuple[Incoming, str | None]] = field(default_factory=dict)
    fields: dict[str, bytearray] = field(default_factory=dict)


async def receive_form(
    request: Request, blobs: Blobs, cleaning: ExitStack, layout: Layout
) -> Received:
    """Read a form whose first file is required; its files are gone when `cleaning` ends.

    Raises `BAD_REQUEST`, `UNKNOWN_FIELD` or `UPLOAD_TOO_LARGE` for a form of another layout.
    """
    boundary = form_boundary(request.headers.get("Content-Type", ""))
    body = Body(request.receive)
    try:
        if boundary is None:
            raise form_error("The body is no form", _HINT)
        received = await _parts(body, Form(boundary), blobs, cleaning, layout)
    except IntraFusionError:
        await body.drain()
        raise
    if "file" not in received.files:
        raise form_error("The form has no file", _HINT)
    return received


async def _parts(
    body: Body, form: Form, blobs: Blobs, cleaning: ExitStack, layout: Layout
) -> Received:
    received = Received()
    length = 0
    part: bytearray | FileWriter | None = None
    async for chunk in body.chunks():
        for event in form.feed(chunk):
            match event:
                case PartBegins():
                    _refuse_unknown(event, received, layout)
                    if event.field in layout.files:
                        incoming = cleaning.enter_context(blobs.begin())
                        received.files[event.field] = (incoming, event.file_name)
                        part = FileWriter(incoming.write, layout.limit)
                    else:
                        part = received.fields.setdefault(event.field, bytearray())
                case PartData() if isinstance(part, FileWriter):
                    await part.write(event.content)
                case PartData() if isinstance(part, bytearray):
                    length += len(event.content)
                    if length > _MAX_FIELDS_BYTES:
                        raise form_error("The form's fields are over a megabyte", _HINT)
                    part += event.content
                case PartEnds() if isinstance(part, FileWriter):
                    await part.close()
    form.finish()
    _leave_out_empty(received)
    return received


def _leave_out_empty(received: Received) -> None:
    """Browsers send a part without name and bytes for a file that was not chosen."""
    for name, (incoming, file_name) in list(received.files.items()):
        if file_name is None and incoming.size == 0:
            del received.files[name]


def _refuse_unknown(part: PartBegins, received: Received, layout: Layout) -> None:
    known = [*layout.files, *layout.fields]
    if part.field not in known:
        raise IntraFusionError(
            ErrorCode.UNKNOWN_FIELD,
            f"There is no field {part.field!r}.",
            f"The fields are {', '.join(known)}.",
            known=known,
        )
    if part.field in received.files or part.field in received.fields:
        raise form_error(f"The form has {part.field} twice", _HINT)
    if part.is_file is not (part.field in layout.files):
        kind = "a file" if part.field in layout.files else "text, not a file"
        raise form_error(f"{part.field} must be {kind}", _HINT)
