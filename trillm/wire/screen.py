"""Shows another HTTP/1.1 server only what our own reader takes for a request (RFC 9112).

A connection that was handed over is read by another parser from then on, and h11 takes what ours refuses: a length
beside chunks, folded headers, bare line feeds. A request that one of two servers reads differently is how requests are
smuggled. So the bytes go through :class:`~trillm.wire.request.RequestReader` first: heads pass as they came, but for
offers to change the protocol; bodies in chunks are framed anew; in place of what is refused comes what every server
refuses, in its turn, and after it nothing.
"""

import sys
from collections.abc import Iterator
from typing import Any

import trio

from trillm.errors import BadRequest, TooLarge
from trillm.wire import answer
from trillm.wire.request import RequestReader
from trillm.wire.request_head import RequestHead

#: No request, no chunk: what any parser of HTTP/1.1 answers with 400.
REFUSED = b"\0\r\n\r\n"


class Screen:
    """Bytes in, bytes out; nothing awaits. How large a body may be is the other server's to say."""

    def __init__(self) -> None:
        self._reader = RequestReader(body_bytes=sys.maxsize)
        self._head: RequestHead | None = None
        self._over = False  # after a refusal, or a last request

    def pass_on(self, data: bytes) -> bytes:
        """Take what was received; return what of it, and of what came before, may be shown now."""
        if self._over:
            return b""
        self._reader.feed(data)
        passed = bytearray()
        try:
            for piece in self._pieces():
                passed += piece
        except (BadRequest, TooLarge):
            self._over = True
            passed += REFUSED
        return bytes(passed)

    def _pieces(self) -> Iterator[bytes]:
        while not self._over:
            if self._head is None:
                self._head = self._reader.next_head()
                if self._head is None:
                    return
                yield _without_offers(self._head)
            body = self._reader.next_body()
            if body is None:
                return
            chunked = self._head.body_bytes is None
            if body:
                yield answer.chunk(body) if chunked else body
                continue
            if chunked:
                yield answer.LAST_CHUNK
            self._over = not self._head.keep_alive
            self._head = None


def _without_offers(head: RequestHead) -> bytes:
    """Return a head without its offer of another protocol, which any server may ignore (RFC 9110 §7.8)."""
    if not head.upgrade:
        return head.raw
    lines = head.raw.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith((b"upgrade:", b"http2-settings:")))


class Screened:
    """A stream of which only what is passed on can be received; otherwise the stream itself, TLS or not."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._screen = Screen()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what comes next and may be shown (a little more than ``max_bytes`` at most), ``b""`` at the end."""
        while data := await self._stream.receive_some(max_bytes):
            if passed := self._screen.pass_on(bytes(data)):
                return passed
        return b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
