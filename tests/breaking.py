"""A way to servers that is not to be relied on."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from urllib.parse import urlsplit


@contextmanager
def breaking(urls: Sequence[str], passed: list[int], *allowed: int) -> Iterator[str]:
    """A proxy that cuts each of its first connections after so many bytes sent.

    Connections go to `urls` by turns. `passed` gets the bytes that each connection brought.
    """
    budgets = iter(allowed)
    turns = cycle(urlsplit(url) for url in urls)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            left, address, brought = next(budgets, None), next(turns), 0
            with socket.create_connection((address.hostname or "", address.port or 0)) as server:
                answers = threading.Thread(target=forward, args=(server, self.request))
                answers.start()
                while chunk := self.request.recv(65536):
                    if left is not None:
                        left -= len(chunk)
                        if left < 0:
                            break
                    server.sendall(chunk)
                    brought += len(chunk)
                passed.append(brought)
                server.shutdown(socket.SHUT_WR)
                self.request.shutdown(socket.SHUT_RDWR)
                answers.join()

    def forward(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
        proxy.shutdown()
        thread.join()
