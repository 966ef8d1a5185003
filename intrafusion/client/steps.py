"""What a call does, one step after another, without saying how it waits.

A call is a generator that yields steps and is sent what came of each. `Client` takes the steps
in the calling thread, `AsyncClient` on an event loop; the calls themselves (`calls.py`) are
written once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from intrafusion.client.answers import BUSY, refusal
from intrafusion.errors import ErrorCode, IntraFusionError

CHUNK = 1 << 20
LONGEST_PAUSE_S = 30.0
STRANGER_S = 2.0

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send a request and read the whole answer; gives it, or the `TransportError` that came.

    The body is `json`, or `file` from the byte `offset` on.
    """

    method: str
    address: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    file: Path | None = None
    offset: int = 0


@dataclass(frozen=True)
class Open:
    """Send a GET and read the answer's head; `Read` gives its body. One at a time.

    `silence` is the number of seconds the server may say nothing.
    """

    address: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    silence: float | None = None


@dataclass(frozen=True)
class Read:
    """Gives the next bytes of what is open, b"" at its end, or the `TransportError` that came."""


@dataclass(frozen=True)
class Close:
    """Close what is open."""


@dataclass(frozen=True)
class Pause:
    """Let some seconds pass."""

    seconds: float


@dataclass(frozen=True)
class Do:
    """Do what takes long on this machine, such as hashing a file; gives its result."""

    work: Callable[[], Any]


Step = Send | Open | Read | Close | Pause | Do
Steps = Generator[Step, Any, T]


class Patience:
    """How long to go on asking a server that is away or busy."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.reset()

    def reset(self) -> None:
        """The server is there: the next failure is counted as the first."""
        self._since: float | None = None
        self._pause = 0.25

    def busy(self, response: httpx.Response) -> Pause:
        """As long a pause as the busy `response` asks for; raises it when patience runs out."""
        try:
            asked = float(response.headers.get("Retry-After", self._pause))
        except ValueError:
            asked = self._pause
        pause = self._next(asked)
        if pause is None:
            raise refusal(response)
        return pause

    def unreachable(self, url: str, cause: httpx.TransportError) -> Pause:
        """A pause after a broken connection; raises `UNAVAILABLE` when patience runs out."""
        pause = self._next(self._pause)
        if pause is None:
            raise IntraFusionError(
                ErrorCode.UNAVAILABLE,
                f"The server at {url} cannot be reached: {cause or type(cause).__name__}.",
                "Check the address and that the server runs (intrafusion serve).",
                url=url,
            ) from cause
        return pause

    def _next(self, asked: float) -> Pause | None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        seconds = min(max(asked, 0.05), LONGEST_PAUSE_S)
        if now + seconds > self._since + self._seconds:
            return None
        self._pause = min(self._pause * 2, 4.0)
        return Pause(seconds)


class Line:
    """The way to one server: its address, and how patient one is with it."""

    def __init__(self, url: str, patience: float) -> None:
        self.url = url
        self._patience = patience
        self._met = False

    def patience(self) -> Patience:
        """Fresh patience; less of it with a server that has never answered."""
        return Patience(self._patience if self._met else min(self._patience, STRANGER_S))

    def ask(self, send: Send) -> Steps[httpx.Response]:
        """One request, repeated while the server is away or busy; a refusal is raised.

        Every request of this API can be repeated without doing its work twice.
        """
        patience = self.patience()
        while True:
            answer = yield send
            if isinstance(answer, httpx.TransportError):
                yield patience.unreachable(self.url, answer)
                continue
            self._met = True
            if answer.is_success:
                response: httpx.Response = answer
                return response
            if answer.status_code not in BUSY:
                raise refusal(answer)
            yield patience.busy(answer)


def http_options(url: str, api_key: str | None, timeout: float, poll: float) -> dict[str, Any]:
    """How httpx is to reach the server. Raises `BAD_REQUEST` for what is no address."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as invalid:
        raise _bad_address(url) from invalid
    if address.scheme not in {"http", "https"}:
        raise _bad_address(url)
    return {
        "base_url": address,
        "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
        "timeout": httpx.Timeout(timeout, read=max(timeout, poll + 10)),
        "follow_redirects": True,
    }


def _bad_address(url: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.BAD_REQUEST,
        f"{url!r} is no server address.",
        "Give one such as http://127.0.0.1:8000.",
        url=url,
    )
