"""MCP over WebSocket, both ends: one JSON-RPC message per text frame. The binding is described in docs/websocket.md.

MCP has no binding of its own for WebSocket; it allows custom transports. Ours is the one the Python and TypeScript SDKs
had in 1.x, with limits added.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import h11
import trio
import trio_websocket as tw
from attrs import define, field, frozen
from wsproto.utilities import LocalProtocolError, ProtocolError

from trillm.errors import UpstreamFailed
from trillm.mcp.jsonrpc import MAX_IN_FLIGHT
from trillm.wire.net import Connect, Origin
from trillm.wire.net import connect as connect_default
from trillm.wire.stream import RawStream, close_now, transport

log = logging.getLogger(__name__)

SUBPROTOCOL = "mcp"

UNSUPPORTED_DATA = 1003
ABNORMAL = 1006
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
class Opening:
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
        opening = Opening(nursery, scope)
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
