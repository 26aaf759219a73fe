"""The gateway's reply over ASGI, run where Quart would iterate a response body.

Quart decides status and headers before the body begins; here the gateway decides them when the first content is there.
So a view returns an :class:`Answer`, and :class:`Connection`, Quart-Trio's own seam, lets it send for itself: in the
request's task, inside the nursery that Quart-Trio cancels when the client disconnects. No channel, no extra task.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import trio
from attrs import define, field
from hypercorn.typing import HTTPScope
from quart import Quart, Request, Response
from quart_trio.asgi import TrioASGIHTTPConnection

from trillm.gateway.reply import Headers, Reply

AsgiSend = Callable[[Any], Awaitable[None]]
AsgiReceive = Callable[[], Awaitable[Any]]

#: How long a refusal over HTTP/2 waits for the rest of what it refuses.
REST_OF_BODY_S = 10.0


@define
class AsgiReply:
    """See :class:`trillm.gateway.reply.Reply`."""

    _send: AsgiSend
    _cors: Headers = field(factory=list)
    started: bool = field(default=False, init=False)
    finished: bool = field(default=False, init=False)

    async def start(self, status: int, headers: Headers, *, length: int | None) -> None:
        """Send the head. Hypercorn holds it until the first piece of the body."""
        self.started = True
        headers = [*headers, *self._cors]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """End the body."""
        self.finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    @property
    def instant(self) -> bool:
        """ASGI's send always has to be awaited."""
        return False

    def send_now(self, data: bytes) -> bool:
        """Never called, see :attr:`instant`."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Nothing is ever left over."""

    def abort(self) -> None:
        """Nothing to do: Hypercorn closes the connection of an application that returns without an end."""


class Answer(Response):
    """A response that sends itself.

    Args:
        run: sends it through the reply it is given.
    """

    timeout = None  # Quart would cut the stream after 60 s

    def __init__(self, run: Callable[[Reply], Awaitable[None]]) -> None:
        super().__init__(b"")
        self.run = run


class Connection(TrioASGIHTTPConnection):
    """Quart-Trio's HTTP connection, for which an :class:`Answer` is a response too."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        super().__init__(app, scope)
        self.reply: AsgiReply | None = None
        self.body_read = trio.Event()

    async def handle_messages(  # type: ignore[override]  # as Quart-Trio itself overrides Quart
        self, nursery: trio.Nursery, request: Request, receive: AsgiReceive
    ) -> None:
        """Read the request, then cancel it when the client disconnects before the reply is complete.

        ASGI calls the end of a complete reply a disconnect too, and Hypercorn says so before the reply's last
        ``send`` has returned: cancelling then would make every good ending look like a client that left.
        """

        async def watched() -> Any:
            message = await receive()
            if not message.get("more_body", False):
                self.body_read.set()
            return message

        await super(TrioASGIHTTPConnection, self).handle_messages(request, watched)
        if self.reply is None or not self.reply.finished:
            nursery.cancel_scope.cancel()

    async def _send_response(self, send: AsgiSend, response: Any) -> None:
        if self.scope["http_version"] == "2" and response.status_code != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            # Hypercorn 0.18 drops a whole HTTP/2 connection if more of a request comes after its reply.
            with trio.move_on_after(REST_OF_BODY_S):
                await self.body_read.wait()
        if isinstance(response, Answer):
            self.reply = AsgiReply(send, _cors(response))
            await response.run(self.reply)
        else:
            await super()._send_response(send, response)


def _cors(response: Response) -> Headers:
    """Return what was put on an answer for web pages; the rest of its headers is the gateway's."""
    names = ("access-control-allow-origin", "access-control-expose-headers", "vary")
    return [(name.encode(), response.headers[name].encode()) for name in names if name in response.headers]
