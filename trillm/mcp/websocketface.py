"""MCP over WebSocket, the server's end: who is let in, what each connection is served, and how it ends."""

import time
from collections.abc import Iterable, Sequence

import msgspec
import trio
import trio_websocket as tw
from attrs import define, field

from trillm.errors import BadRequest, NotFound, TrillmError, Unavailable
from trillm.gateway.proxies import peer_address
from trillm.mcp.dialogue import Dialogue
from trillm.mcp.endpoint import Endpoint
from trillm.mcp.websocket import DEFAULTS, SUBPROTOCOL, Opening, WebSocketChannel, WebSocketSettings
from trillm.wire.stream import RawStream, Replayed, transport

AUTH_PREFIX = "mcp.auth."

NORMAL = 1000
GOING_AWAY = 1001
POLICY = 1008


@define(eq=False)
class WebSocketFace:
    """Serves the WebSockets of an endpoint.

    Args:
        endpoint: what is served, and to whom.
        settings: see :class:`WebSocketSettings`.
    """

    endpoint: Endpoint
    settings: WebSocketSettings = DEFAULTS
    closing: bool = field(default=False, init=False)
    _open: set["_Connection"] = field(factory=set, init=False, repr=False)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def serve(self, stream: trio.abc.Stream, read: bytes = b"") -> None:
        """Serve one connection, from its opening handshake on.

        Args:
            stream: to the client.
            read: what was read from it already.
        """
        raw = transport(stream)
        if isinstance(raw, RawStream):
            raw.write_stall_s = self.settings.stall_s
        async with trio.open_nursery() as nursery:
            connection = None
            with trio.move_on_after(self.settings.handshake_s) as scope:
                request = await tw.wrap_server_stream(
                    Opening(nursery, scope),  # type: ignore[arg-type]  # as much of a nursery as it uses
                    Replayed(stream, read),  # type: ignore[arg-type]  # all of a stream that it uses
                    # Nothing waits in trio-websocket: who sends faster than we work is to notice.
                    message_queue_size=0,
                    max_message_size=self.settings.message_bytes,
                    receive_buffer_size=None,
                )
                connection = await self._accepted(request, stream)
            if connection is not None:
                nursery.start_soon(connection.channel.keep_alive)
                await self._run(connection)
            nursery.cancel_scope.cancel()

    async def _accepted(self, request: tw.WebSocketRequest, stream: trio.abc.Stream) -> "_Connection | None":
        """Open the WebSocket, or say why not."""
        try:
            offered = request.proposed_subprotocols
            if self.closing:
                raise Unavailable("trillm is stopping; try again in a moment.")
            caller = self.endpoint.admit(with_bearer(request.headers, offered), peer_address(stream))
            view = self.endpoint.view(request.path.partition("?")[0], caller)
            if view is None:
                raise NotFound(f"No MCP server is served at {request.path!r}. Try /mcp.")
            if offered and SUBPROTOCOL not in offered:
                raise BadRequest(f"None of the subprotocols offered is served: offer {SUBPROTOCOL!r}, or none.")
        except TrillmError as error:
            headers = [(b"content-type", b"application/json"), *self.endpoint.challenge(error), *error.headers()]
            await request.reject(error.status, extra_headers=headers, body=msgspec.json.encode(error.envelope()))
            return None
        socket = await request.accept(subprotocol=SUBPROTOCOL if offered else None)
        channel = WebSocketChannel(socket, stream, self.settings)
        return _Connection(channel, Dialogue(view, channel, caller, self.settings.max_in_flight))

    async def _run(self, connection: "_Connection") -> None:
        self._open.add(connection)
        try:
            with self.endpoint.known(connection.dialogue, connection.dismiss), connection.scope:
                await connection.dialogue.serve()
            if connection.expired:
                connection.dismiss()
            # Here and nowhere else: the other side's goodbye is read by a task that ends after this.
            await connection.channel.close(*connection.goodbye)
        finally:
            self._open.discard(connection)

    async def finish(self) -> None:
        """Let what runs be answered, take nothing more, and close each connection when it has nothing to do."""
        self.closing = True
        async with trio.open_nursery() as nursery:
            for connection in tuple(self._open):
                nursery.start_soon(connection.finish)

    def abort(self) -> None:
        """Close every connection at once."""
        for connection in tuple(self._open):
            connection.channel.abort()


@define(eq=False)
class _Connection:
    channel: WebSocketChannel
    dialogue: Dialogue
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    #: Code and reason of the close frame, unless the client closes.
    goodbye: tuple[int, str] = (NORMAL, "")

    def __attrs_post_init__(self) -> None:
        self.scope.deadline = trio.current_time() + self.dialogue.caller.expires - time.time()

    @property
    def expired(self) -> bool:
        """Whether the caller's token is good no more."""
        return trio.current_time() >= self.scope.deadline

    async def finish(self) -> None:
        await self.dialogue.peer.finish()
        self._end(GOING_AWAY, "trillm is stopping.")

    def dismiss(self) -> None:
        self._end(POLICY, "The key used is not good any more.")

    def _end(self, code: int, reason: str) -> None:
        self.goodbye = (code, reason)
        self.scope.cancel()


def with_bearer(headers: Iterable[tuple[bytes, bytes]], offered: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Return the headers with the token a browser offered as a subprotocol, since it cannot send ``Authorization``."""
    known = [(name.lower(), value) for name, value in headers]
    if any(name == b"authorization" for name, _ in known):
        return known
    tokens = [text.removeprefix(AUTH_PREFIX) for text in offered if text.startswith(AUTH_PREFIX)]
    return [*known, *((b"authorization", b"Bearer " + token.encode()) for token in tokens[:1])]
