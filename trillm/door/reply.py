"""The gateway's reply on a connection of our own: one system call per piece."""

import time

import trio
from attrs import define, field

from trillm.gateway.reply import ClientLeft, Headers
from trillm.wire import answer
from trillm.wire.stream import RawStream, send_soon


@define
class LaneReply:
    """See :class:`trillm.gateway.reply.Reply`.

    Args:
        stream: the client.
        closing: whether the connection ends with this reply, and the client is to know.
        cors: headers for a web page, if one is asking.
    """

    _stream: trio.abc.SendStream
    closing: bool = False
    cors: Headers = field(factory=list)
    started: bool = field(default=False, init=False)
    finished: bool = field(default=False, init=False)
    aborted: bool = field(default=False, init=False)
    _chunked: bool = field(default=False, init=False)
    #: The head, until something follows it: it goes out with the first piece of the body.
    _head: bytes = field(default=b"", init=False)
    _unsent: bytes = field(default=b"", init=False)

    async def start(self, status: int, headers: Headers, *, length: int | None) -> None:
        """Prepare the head; it leaves with the first piece."""
        self.started = True
        self._chunked = length is None
        headers = [*headers, *self.cors, (b"date", http_date())]
        if self.closing:
            headers.append((b"connection", b"close"))
        self._head = answer.head(status, headers, length=length)

    async def send(self, data: bytes) -> None:
        """Send a piece."""
        await self._write(self.framed(data))

    async def finish(self, data: bytes = b"") -> None:
        """Send the last piece and the end."""
        self.finished = True
        if not self._chunked and len(data) > 64 * 1024:
            await self._write(b"")
            await self._write(data)
        else:
            await self._write(self.framed(data) + (answer.LAST_CHUNK if self._chunked else b""), soon=not self.closing)

    @property
    def instant(self) -> bool:
        """Whether the socket is ours: not under TLS."""
        return isinstance(self._stream, RawStream)

    def send_now(self, data: bytes) -> bool:
        """Send a piece without waiting; what the client does not take is kept for :meth:`flush`."""
        stream = self._stream
        if not isinstance(stream, RawStream):
            raise TypeError("this reply has no socket of its own")
        framed = self.framed(data)
        try:
            sent = stream.send_now(framed)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ClientLeft from exc
        self._unsent = framed[sent:]
        return not self._unsent

    async def flush(self) -> None:
        """Wait until the client takes the rest."""
        rest, self._unsent = self._unsent, b""
        if rest:
            await self._write(rest)

    def abort(self) -> None:
        """The connection is closed without the last chunk by whoever owns it."""
        self.aborted = True

    def framed(self, data: bytes) -> bytes:
        """Return ``data`` as it goes over the wire."""
        return answer.chunk(data) if self._chunked and data else data

    async def _write(self, data: bytes, *, soon: bool = False) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        if soon and send_soon(self._stream, data):
            return
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ClientLeft from exc


_date = (0, b"")


def http_date() -> bytes:
    """Return the time as HTTP writes it (RFC 9110 §5.6.7), built once a second."""
    global _date  # noqa: PLW0603 - a cache of one value
    now = int(time.time())
    if _date[0] != now:
        _date = (now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode())
    return _date[1]
