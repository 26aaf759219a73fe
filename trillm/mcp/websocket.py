"""MCP over WebSocket, both ends: one JSON-RPC message per text frame. The binding is described in docs/websocket.md.

MCP has no binding of its own for WebSocket; it allows custom transports. Ours is the one the Python and TypeScript SDKs
had in 1.x, with limits added.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import h11
import msgspec
import trio
import trio_websocket as tw
from attrs import define, field, frozen
from wsproto.utilities import LocalProtocolError, ProtocolError

from trillm.errors import BadRequest, NotFound, TrillmError, Unavailable, UpstreamFailed
from trillm.mcp.dialogue import Dialogue
from trillm.mcp.endpoint import Endpoint
from trillm.mcp.jsonrpc import MAX_IN_FLIGHT
from trillm.wire.net import Connect, Origin, RawStream, Replayed, close_now, transport
from trillm.wire.net import connect as connect_default

log = logging.getLogger(__name__)

SUBPROTOCOL = "mcp"
AUTH_PREFIX = "mcp.auth."

NORMAL = 1000
GOING_AWAY = 1001
UNSUPPORTED_DATA = 1003
ABNORMAL = 1006
POLICY = 1008
#: What our goodbye to an upstream may take.
GOODBYE_S = 2.0


@frozen
class WebSocketSettings:
    """What a connection may cost.

    Args:
        ping_s: seconds between two pings.
        pong_s: seconds a pong may take; then the other side is taken for dead.
        message_bytes: the largest message.
        stall_s: seconds the other side may take no byte of a frame.
        frame_s: seconds a whole frame may take.
        handshake_s: seconds for the opening and for the closing handshake.
        max_in_flight: requests at once.
    """

    ping_s: float = 20.0
    pong_s: float = 10.0
    message_bytes: int = 4 * 1024 * 1024
    stall_s: float = 10.0
    frame_s: float = 60.0
    handshake_s: float = 10.0
    max_in_flight: int = MAX_IN_FLIGHT


DEFAULTS = WebSocketSettings()


@define(eq=False)
class WebSocketChannel:
    """See :class:`trillm.mcp.jsonrpc.Channel`.

    Args:
        socket: open.
        stream: what it is on.
        settings: see :class:`WebSocketSettings`.
    """

    socket: tw.WebSocketConnection
    stream: trio.abc.Stream
    settings: WebSocketSettings = DEFAULTS

    async def receive(self) -> str | None:
        """Wait for a message. A binary frame ends the connection: JSON is text."""
        try:
            message = await self.socket.get_message()
        except tw.ConnectionClosed:
            return None
        if isinstance(message, str):
            return message
        await self.close(UNSUPPORTED_DATA, "Send JSON in text frames.")
        return None

    async def send(self, message: bytes) -> None:
        """Send a message as one frame; shielded, for half a frame would break every other request."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.settings.frame_s) as scope:
            try:
                await self.socket.send_message(message.decode())
            except (tw.ConnectionClosed, LocalProtocolError) as exc:
                if self.socket.closed is not None and self.socket.closed.code == ABNORMAL:
                    self.abort()  # or each of those who wait for their turn would wait for a stall of its own
                raise trio.BrokenResourceError("the WebSocket is closed") from exc
        if scope.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError(f"the frame was not taken within {self.settings.frame_s:g} s")

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye and wait a moment for the other side's."""
        with trio.move_on_after(self.settings.handshake_s):
            await self.socket.aclose(code, reason)

    def abort(self) -> None:
        """Close the connection without a word."""
        close_now(self.stream)

    async def keep_alive(self) -> None:
        """Ping now and then, and end the connection of a peer that does not answer: a lost host sends no goodbye."""
        while True:
            await trio.sleep(self.settings.ping_s)
            with trio.move_on_after(self.settings.pong_s) as scope:
                try:
                    await self.socket.ping()
                except (tw.ConnectionClosed, LocalProtocolError):
                    return None
            if scope.cancelled_caught:
                return self.abort()


@define(eq=False)
class _Opening:
    """The opening handshake: ends when trio-websocket's reader does, which nobody else would tell of.

    Args:
        nursery: the reader runs in it.
        scope: of who waits for the handshake.
    """

    nursery: trio.Nursery
    scope: trio.CancelScope
    error: tw.HandshakeError | None = field(default=None, init=False)

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        """Start the reader: all that trio-websocket wants of a nursery."""
        self.nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except tw.HandshakeError as exc:
            self.error = exc
        except (h11.ProtocolError, ProtocolError) as exc:
            log.debug("no websocket error=%s", exc)
        self.scope.cancel()


# ── server ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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
                    _Opening(nursery, scope),  # type: ignore[arg-type]  # as much of a nursery as it uses
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
            caller = self.endpoint.access.admit(with_bearer(request.headers, offered))
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


# ── client ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def open_websocket(
    url: str,
    headers: Sequence[tuple[str, str]] = (),
    *,
    settings: WebSocketSettings = DEFAULTS,
    connect: Connect = connect_default,
) -> AsyncIterator[WebSocketChannel]:
    """Connect to an MCP server over WebSocket for the time of the block.

    What the block raises comes out in an exception group, as from a nursery.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: sent with the opening request, e.g. ``Authorization``.
        settings: see :class:`WebSocketSettings`.
        connect: makes the connection.

    Raises:
        UpstreamFailed: nobody is there, or it refuses.
    """
    stream = await _connected(url, settings, connect)
    refused = None
    async with trio.open_nursery() as nursery:
        try:
            channel = WebSocketChannel(await _opened(nursery, stream, url, headers, settings), stream, settings)
            nursery.start_soon(channel.keep_alive)
            try:
                yield channel
            finally:
                # Cancelled, there is nobody left to read the other side's goodbye.
                if trio.current_effective_deadline() > trio.current_time():
                    with trio.move_on_after(GOODBYE_S, shield=True):
                        await channel.socket.aclose()
        except UpstreamFailed as exc:
            refused = exc
        finally:
            close_now(stream)
            nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused


async def _connected(url: str, settings: WebSocketSettings, connect: Connect) -> trio.abc.Stream:
    stream = await connect(Origin.of("http" + url.removeprefix("ws")))
    raw = transport(stream)
    if isinstance(raw, RawStream):
        raw.write_stall_s = settings.stall_s
    return stream


async def _opened(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    url: str,
    headers: Sequence[tuple[str, str]],
    settings: WebSocketSettings,
) -> tw.WebSocketConnection:
    parts = urlsplit(url)
    with trio.move_on_after(settings.handshake_s) as scope:
        opening = _Opening(nursery, scope)
        return await tw.wrap_client_stream(
            opening,  # type: ignore[arg-type]  # as much of a nursery as it uses
            stream,  # type: ignore[arg-type]  # any stream will do
            Origin.of("http" + url.removeprefix("ws")).authority,
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            subprotocols=[SUBPROTOCOL],
            extra_headers=[(name.encode(), value.encode()) for name, value in headers],
            message_queue_size=0,
            max_message_size=settings.message_bytes,
            receive_buffer_size=None,
        )
    match opening.error:
        case tw.ConnectionRejected(status_code=status):
            why = f"it answered {status} to the WebSocket handshake"
        case _:
            why = "it is no WebSocket server, or did not answer in time"
    raise UpstreamFailed(f"cannot connect to {url}: {why}")
