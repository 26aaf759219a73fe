"""One HTTP reply to an MCP client: plain JSON, unless there is something to tell before the answer; then a stream."""

import trio
from attrs import define, field

from trillm.gateway.reply import Headers, Reply

#: A proxy on the way may take a silent stream for a dead one.
SILENCE_S = 15.0

_JSON: Headers = [(b"content-type", b"application/json")]
_STREAM: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


@define(eq=False)
class Outlet:
    """See the module.

    Args:
        reply: where it goes.
        headers: that go with it.
    """

    reply: Reply
    headers: Headers = field(factory=list)
    last_s: float = field(factory=trio.current_time, init=False)
    _lock: trio.Lock = field(factory=trio.Lock, init=False, repr=False)

    async def tell(self, message: bytes, event_id: str = "") -> None:
        """Send an event; the first makes the reply a stream."""
        await self._send(event(message, event_id))

    async def comment(self) -> None:
        """Send nothing, visibly."""
        await self._send(b": still here\n\n")

    async def prime(self, event_id: str, retry_ms: int) -> None:
        """Begin the stream with an event that has only an id, by which a client can come back."""
        await self._send(b"id: %b\nretry: %d\ndata: \n\n" % (event_id.encode(), retry_ms))

    async def answer(self, message: bytes, status: int = 200) -> None:
        """End the reply with the answer."""
        async with self._lock:
            if self.reply.started:
                await self.reply.finish(event(message, ""))
            else:
                await self.reply.start(status, [*_JSON, *self.headers], length=len(message))
                await self.reply.finish(message)

    async def end(self) -> None:
        """End the stream."""
        async with self._lock:
            await self.reply.finish()

    async def nothing(self, status: int, headers: Headers = ()) -> None:  # type: ignore[assignment]  # empty
        """Answer without a body."""
        await self.reply.start(status, [*self.headers, *headers], length=0)
        await self.reply.finish()

    async def _send(self, data: bytes) -> None:
        async with self._lock:
            if self.reply.finished:
                return
            if not self.reply.started:
                await self.reply.start(200, [*_STREAM, *self.headers], length=None)
            await self.reply.send(data)
            self.last_s = trio.current_time()


def event(message: bytes, event_id: str) -> bytes:
    """Return one server-sent event; JSON as we write it has no line breaks."""
    head = b"id: %b\n" % event_id.encode() if event_id else b""
    return b"%bevent: message\ndata: %b\n\n" % (head, message)
