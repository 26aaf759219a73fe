"""Another face's paths within the application: each request is read as a whole and answered by that face."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio
from attrs import frozen

from trillm.api.reply import AsgiReply
from trillm.errors import TooLarge
from trillm.gateway.call import request_id
from trillm.gateway.envelopes import send_error
from trillm.gateway.proxies import UNIX
from trillm.gateway.reply import Reply
from trillm.wire.http_request import HttpRequest

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class Other(Protocol):
    """A face that answers requests which were read as a whole."""

    def takes(self, path: bytes) -> bool:
        """Tell whether a request to ``path`` is its."""

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        """Answer it; cancelled when the client leaves."""


@frozen
class Mount:
    """Where another face begins.

    Args:
        other: the face.
        body_bytes: the largest body.
    """

    other: Other
    body_bytes: int

    def before(self, app: Asgi) -> Asgi:
        """Return an application that serves the path, and leaves the rest to ``app``."""

        async def dispatch(scope: Any, receive: Any, send: Any) -> None:
            mine = scope["type"] == "http" and self.other.takes(scope["path"].encode())
            await (self._serve if mine else app)(scope, receive, send)

        return dispatch

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        reply = AsgiReply(send)
        body = await self._body(receive)
        if body is None:
            return
        if len(body) > self.body_bytes:
            await send_error(reply, TooLarge(f"The body is larger than {self.body_bytes} bytes."), request_id(None), [])
            return
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, receive, nursery.cancel_scope)
            await self.other.handle(
                HttpRequest(scope["method"], scope["path"], headers, body, address_of(scope)), reply
            )
            nursery.cancel_scope.cancel()

    async def _body(self, receive: Any) -> bytes | None:
        """Return the body, no more of it than is needed to see that it is too large; None if the client left."""
        pieces, size, more = [], 0, True
        while more and size <= self.body_bytes:
            message = await receive()
            if message["type"] != "http.request":
                return None
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            more = message.get("more_body", False)
        return b"".join(pieces)


def address_of(scope: Any) -> str:
    """Return the address of who is at the other end; None is what Hypercorn makes of a Unix socket's."""
    client = scope["client"]
    return UNIX if client is None else str(client[0])


async def _watch(receive: Any, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
