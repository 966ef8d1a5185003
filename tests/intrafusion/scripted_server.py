"""A real HTTP server on a random port that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Call:
    """One request as the server saw it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What the server sends; `cut` breaks the connection after so many bytes of the body."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass
class Script:
    """Answers by (method, path), one after another; the last one repeats."""

    url: str = ""
    answers: dict[tuple[str, str], list[Answer | Callable[[Call], Answer]]] = field(
        default_factory=dict
    )
    calls: list[Call] = field(default_factory=list)

    def on(self, method: str, path: str, *answers: Answer | Callable[[Call], Answer]) -> None:
        self.answers[method, path] = list(answers)

    def next(self, call: Call) -> Answer:
        self.calls.append(call)
        waiting = self.answers[call.method, call.path]
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return answer(call) if callable(answer) else answer


@contextmanager
def scripted_server() -> Iterator[Script]:
    """A script and the server that follows it, for as long as the context lasts."""
    plan = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {key.lower(): value for key, value in self.headers.items()}
            call = Call(self.command, address.path, parse_qs(address.query), headers, body)
            answer = plan.next(call)
            raw = answer.body if isinstance(answer.body, bytes) else _json(answer.body)
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(raw)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names http.server looks for

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    plan.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield plan
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()
