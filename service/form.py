"""multipart/form-data as it arrives: no part is held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from intrafusion.errors import ErrorCode, IntraFusionError


@dataclass(frozen=True)
class PartBegins:
    """A field of the form: its name, and its file name where it is a file."""

    field: str
    file_name: str | None
    is_file: bool


@dataclass(frozen=True)
class PartData:
    """Bytes of the part that began last."""

    content: bytes


@dataclass(frozen=True)
class PartEnds:
    """The part that began last is whole."""


FormEvent = PartBegins | PartData | PartEnds


class Form:
    """Parses a form; `feed` it the body's chunks, then `finish`.

    Every method raises `BAD_REQUEST` for a body that is no form.
    """

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise form_error("The multipart body's boundary is missing")
        self._ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._events: list[FormEvent] = []
        callbacks: Any = {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise form_error(str(error)) from error

    def feed(self, chunk: bytes) -> Iterator[FormEvent]:
        """Parse `chunk` and tell what was in it."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise form_error(str(error)) from error
        events, self._events = self._events, []
        yield from events

    def finish(self) -> None:
        """Make sure that the form was whole."""
        if not self._ended:
            raise form_error("The multipart body ends before its closing boundary")

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        file_name = options.get(b"filename")
        self._events.append(
            PartBegins(
                field=options.get(b"name", b"").decode(errors="replace"),
                file_name=file_name.decode(errors="replace") if file_name else None,
                is_file=file_name is not None,
            )
        )

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartData(data[start:end]))

    def _on_part_end(self) -> None:
        self._events.append(PartEnds())

    def _on_end(self) -> None:
        self._ended = True


def form_boundary(content_type: str) -> bytes | None:
    """The boundary that a `Content-Type` header names; None where it names another kind."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary", b"") if kind == b"multipart/form-data" else None


def form_error(reason: str, hint: str = "") -> IntraFusionError:
    """What is wrong with a form, and how one is sent."""
    return IntraFusionError(
        ErrorCode.BAD_REQUEST,
        f"{reason.rstrip('.')}.",
        hint
        or "Send one file, as `curl --form file=@model.pt` or as a raw body with "
        "`curl --data-binary @model.pt`.",
    )
