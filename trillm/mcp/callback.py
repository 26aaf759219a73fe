"""Waits on loopback for the browser that comes back from a login (RFC 8252 §7.3): one page, one answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qs, urlsplit

import trio
from attrs import define, field
from mcp.shared.auth import AuthorizationCodeResult

from trillm.errors import UpstreamFailed

_MOST_BYTES = 16 * 1024
_PATIENCE_S = 10.0
_PAGE = b"<!doctype html><title>trillm</title><p>%b You can close this page."


@define
class Callback:
    """Made by :func:`open_callback`.

    Args:
        url: where the browser is to come back to.
    """

    url: str
    _query: dict[str, str] = field(factory=dict, init=False, repr=False)
    _came: trio.Event = field(factory=trio.Event, init=False)

    async def wait_for_code(self) -> AuthorizationCodeResult:
        """Return what the browser came back with.

        Raises:
            UpstreamFailed: the person or the server refused.
        """
        await self._came.wait()
        if "code" not in self._query:
            reason = self._query.get("error_description") or self._query.get("error") or "no code came back"
            raise UpstreamFailed(f"the login was refused: {reason}")
        known = {name: self._query[name] for name in ("code", "state", "iss") if name in self._query}
        return AuthorizationCodeResult(**known)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one request of a browser."""
        async with stream:
            with trio.move_on_after(_PATIENCE_S):
                try:
                    await stream.send_all(self._answer(await _head(stream)))
                except trio.BrokenResourceError:
                    return

    def _answer(self, head: bytes) -> bytes:
        target = urlsplit(head.split(b" ")[1].decode("latin-1") if head.count(b" ") > 1 else "")
        if target.path != "/callback":
            return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self._query = {name: values[0] for name, values in parse_qs(target.query).items()}
        self._came.set()
        page = _PAGE % (b"trillm is logged in." if "code" in self._query else b"The login was refused.")
        lines = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        return lines % len(page) + page


async def _head(stream: trio.SocketStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MOST_BYTES:
        data = await stream.receive_some(4096)
        if not data:
            break
        head += data
    return head


@asynccontextmanager
async def open_callback() -> AsyncIterator[Callback]:
    """Listen on a free port of loopback for the time of the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    callback = Callback(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/callback")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, callback.serve, [listener]))
        yield callback
        nursery.cancel_scope.cancel()
