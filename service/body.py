"""A request's body as it arrives, which knows whether it has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

from anyio import move_on_after
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

_DRAIN_BYTES = 64 * 1024**2
_DRAIN_SECONDS = 10


class Body:
    """The chunks of one body, to be read once."""

    def __init__(self, receive: Receive, *, expects_continue: bool = False) -> None:
        self._receive = receive
        self._untouched = expects_continue
        self._ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks as they come. Raises ClientDisconnect where the client goes away."""
        while not self._ended:
            self._untouched = False
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._ended = True
                raise ClientDisconnect
            self._ended = not message.get("more_body", False)
            yield message.get("body", b"")

    async def drain(self) -> None:
        """Read on for a while before refusing, so that the client gets to read why.

        One still sending when the connection closes sees it broken instead of the answer. One
        that waits for `100 Continue` has sent nothing yet, and reading would tell it to.
        """
        if self._untouched:
            return
        left = _DRAIN_BYTES
        with move_on_after(_DRAIN_SECONDS):
            async for chunk in self.chunks():
                left -= len(chunk)
                if left < 0:
                    return


def replayed(content: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `content` as the whole body, and then what `receive` gives."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": content, "more_body": False}

    return replay
