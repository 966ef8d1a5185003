"""Waiting for a job: by its stream of events, else by long polls, else by polls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import httpx

from intrafusion.api import Event, Job
from intrafusion.client import calls
from intrafusion.client.answers import BUSY, check, parse, refusal
from intrafusion.client.steps import Close, Line, Open, Pause, Read, Send, Steps

LONGEST_POLL_S = 20
_SILENCE_S = 15.0
"""A stream says something at least every ten seconds."""
_POLL_S = 1.0

EventListener = Callable[[Event], None]


def wait(
    line: Line, job_id: str, timeout: float | None, on_event: EventListener | None
) -> Steps[Job]:
    """The job when it has ended, or as it is when `timeout` seconds have passed."""
    deadline = None if timeout is None else time.monotonic() + timeout
    story = _Story(line, job_id, on_event)
    while True:
        left = LONGEST_POLL_S if deadline is None else max(0.0, deadline - time.monotonic())
        if story.streams and left > _SILENCE_S:
            yield from story.follow()
            left = 0
        elif on_event is not None:
            left = min(left, _POLL_S)
        job = yield from _look(line, job_id, round(min(left, LONGEST_POLL_S)), story)
        if not story.streams or job.ended:
            yield from story.catch_up()
        if job.ended or (deadline is not None and time.monotonic() >= deadline):
            return job
        if round(left) <= 0 and not story.streams:
            yield Pause(0.1)


def _look(line: Line, job_id: str, seconds: int, story: _Story) -> Steps[Job]:
    """The job, as soon as it ends within some seconds."""
    address = f"/v1/jobs/{job_id}"
    if seconds > 0 and story.long_polls:
        answer = yield Send("GET", address, params={"wait": seconds})
        if not isinstance(answer, httpx.TransportError) and answer.is_success:
            return parse(answer, Job)
        # Something in between may not let answers take so long.
        silent = isinstance(answer, httpx.ReadTimeout) or getattr(answer, "status_code", 0) == 504
        story.long_polls = not silent
    elif seconds > 0:
        yield Pause(_POLL_S)
    return (yield from calls.get(line, address, Job))


class _Story:
    """A job's events, each told once and in order."""

    def __init__(self, line: Line, job_id: str, listener: EventListener | None) -> None:
        self._line = line
        self._address = f"/v1/jobs/{job_id}/events"
        self._listener = listener
        self._seen = 0
        self.streams = listener is not None
        self.long_polls = True

    def catch_up(self) -> Steps[None]:
        """Tell what has happened so far, as pages."""
        if self._listener is None:
            return
        after = self._seen
        params: dict[str, int | str] = {"after": after}
        while True:
            page = yield from calls.page(self._line, self._address, params, Event)
            self._tell(page.data)
            if page.next is None:
                return
            params = {"after": after, "cursor": page.next}

    def follow(self) -> Steps[None]:
        """Tell what happens until the stream ends; `streams` is False where there is none."""
        patience = self._line.patience()
        frames = _Frames()
        response = yield Open(
            self._address,
            params={"after": self._seen},
            headers={"Accept": "text/event-stream", "Last-Event-ID": str(self._seen)},
            silence=_SILENCE_S,
        )
        if isinstance(response, httpx.TransportError):
            self.streams = not isinstance(response, httpx.ReadTimeout)
            yield patience.unreachable(self._line.url, response)
            return
        if response.is_error or not _is_stream(response):
            yield from self._take_whole(response)
            return
        while True:
            chunk = yield Read()
            if isinstance(chunk, httpx.TransportError) or not chunk:
                break
            self._tell([check(frame, Event) for frame in frames.feed(chunk)])
        yield Close()

    def _take_whole(self, response: httpx.Response) -> Steps[None]:
        """What came instead of a stream: nothing more, a page from a server without, a refusal."""
        chunks = []
        while (chunk := (yield Read())) and not isinstance(chunk, httpx.TransportError):
            chunks.append(chunk)
        yield Close()
        whole = httpx.Response(
            response.status_code,
            headers=[(k, v) for k, v in response.headers.items() if k != "content-encoding"],
            content=b"".join(chunks),
            request=response.request,
        )
        if response.is_error and response.status_code not in BUSY:
            raise refusal(whole)
        self.streams = response.status_code == 204

    def _tell(self, events: list[Event]) -> None:
        assert self._listener is not None
        for event in events:
            if event.id > self._seen:
                self._seen = event.id
                self._listener(event)


def _is_stream(response: httpx.Response) -> bool:
    return "text/event-stream" in response.headers.get("Content-Type", "")


class _Frames:
    """Server-sent events out of bytes as they come."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, chunk: bytes) -> Iterator[object]:
        """The data of every frame that `chunk` completes."""
        *whole, self._pending = (self._pending + chunk.replace(b"\r\n", b"\n")).split(b"\n\n")
        for frame in whole:
            data = [
                line.removeprefix(b"data:").strip()
                for line in frame.split(b"\n")
                if line.startswith(b"data:")
            ]
            if data:
                yield json.loads(b"\n".join(data))
