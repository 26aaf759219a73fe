"""The fast lane: hot routes over HTTP/1.1, from socket to gateway and back without a framework.

One task and one cancel scope per connection. The scope is cancelled when the client hangs up before it has its reply,
and when it lets us wait too long for a request; while the gateway works there is no deadline here, for the call brings
its own budget. Whatever is not a hot route is handed over with the bytes already read.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from io import BytesIO
from typing import Any, Protocol

import trio
from attrs import define, field, frozen

from trillm.door.reply import LaneReply
from trillm.door.tls import speaks_http_2
from trillm.errors import NotFound, RequestTimeout, TrillmError
from trillm.gateway.access import Access
from trillm.gateway.call import read_call, request_id
from trillm.gateway.envelopes import send_error
from trillm.gateway.gateway import Gateway
from trillm.gateway.paths import PATHS, asked_at
from trillm.gateway.proxies import UNKNOWN, Peer, peer_address
from trillm.gateway.reply import ClientLeft, Headers, Reply
from trillm.wire import answer
from trillm.wire.http_request import HttpRequest
from trillm.wire.poller import HUNG_UP, Poller
from trillm.wire.request import RequestReader
from trillm.wire.request_head import RequestHead
from trillm.wire.stream import RECEIVE_BYTES, RawStream, transport

#: Asked for at once when a large body comes: each wake costs as much as moving 100 KB.
MANY_BYTES = 1024 * 1024
#: Seconds that a client gets to stop sending after it was refused.
LINGER_S = 2.0

HandOver = Callable[[trio.abc.Stream, bytes], Awaitable[None]]

_OPERATIONS = {path.encode(): operation for path, operation in PATHS.items()}


class Mount(Protocol):
    """Another face that answers requests which were read as a whole."""

    def takes(self, path: bytes) -> bool:
        """Tell whether a request to ``path`` is its."""

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        """Answer it; cancelled when the client leaves."""

    async def serve_websocket(self, stream: trio.abc.Stream, read: bytes) -> None:
        """Serve a connection that asks to become a WebSocket, given what was read of it."""


@frozen
class LaneSettings:
    """What a client may cost before it is a caller.

    Args:
        idle_s: seconds a connection may wait for its next request.
        head_s: seconds from a head's first byte to its last.
        body_s: seconds a body may take.
        head_bytes: the largest head.
        body_bytes: the largest body.
    """

    idle_s: float = 75.0
    head_s: float = 10.0
    body_s: float = 60.0
    head_bytes: int = 64 * 1024
    body_bytes: int = 64 * 1024 * 1024


@define(eq=False)
class Lane:
    """What all connections share.

    Args:
        gateway: answers calls.
        access: who may call.
        hand_over: serves a connection whose request is not for the lane, given the bytes already read.
        poller: tells of clients that hang up.
        settings: see :class:`LaneSettings`.
        enabled: False hands everything over.
        mount: another face, whose requests are read here and answered there, and whose WebSockets go there.
    """

    gateway: Gateway
    access: Access
    hand_over: HandOver
    poller: Poller | None = None
    settings: LaneSettings = field(factory=LaneSettings)
    enabled: bool = True
    mount: Mount | None = None
    closing: bool = field(default=False, init=False)
    _conversations: "set[_Conversation]" = field(factory=set, init=False)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end."""
        if speaks_http_2(stream):
            await self.hand_over(stream, b"")
            return
        not_ours = b""
        conversation = _Conversation(self, stream, self.access.proxies.peer(peer_address(stream)))
        self._conversations.add(conversation)
        try:
            with conversation.scope:
                not_ours = await self._converse(conversation)
        finally:
            self._conversations.discard(conversation)
        if not_ours:
            await (conversation.upgraded or self.hand_over)(stream, not_ours)

    async def _converse(self, conversation: "_Conversation") -> bytes:
        raw = transport(conversation.stream)
        if self.poller is None or not isinstance(raw, RawStream):
            return await conversation.run()
        conversation.watched = True
        with self.poller.watching(raw.socket, HUNG_UP, conversation.hung_up):
            return await conversation.run()

    async def serve_deadlines(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """End the connections that wait longer than they may, looking once a second.

        A deadline on each scope would be set three times per request, which costs more than reading the request.
        """
        task_status.started()
        while True:
            await trio.sleep(1)
            now = trio.current_time()
            for conversation in tuple(self._conversations):
                if conversation.deadline < now:
                    conversation.scope.cancel()

    def close_idle(self) -> None:
        """Close the connections that wait for a request; the others end after the one they have."""
        self.closing = True
        for conversation in tuple(self._conversations):
            if conversation.idle:
                conversation.scope.cancel()


@define(eq=False)
class _Conversation:
    """One connection.

    Args:
        lane: what all connections share.
        stream: to the client.
        peer: who it is, or the proxy before it.
        scope: cancelled to end the connection.
        deadline: when what it waits for now is to be there, on Trio's clock.
        idle: whether it waits for a request.
        watched: whether somebody will call :meth:`hung_up`.
        upgraded: who serves it when it is a WebSocket.
    """

    lane: Lane
    stream: trio.abc.Stream
    peer: Peer = UNKNOWN
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    deadline: float = math.inf
    idle: bool = False
    watched: bool = False
    reader: RequestReader = field(init=False)
    upgraded: HandOver | None = field(default=None, init=False)
    _reply: LaneReply | None = field(default=None, init=False)
    _left: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.lane.settings
        self.reader = RequestReader(head_bytes=settings.head_bytes, body_bytes=settings.body_bytes)

    def hung_up(self) -> None:
        """The client is gone: what it was waiting for has no more use. A complete reply is not disturbed."""
        self._left = True
        if self._reply is not None and not self._reply.finished:
            self.scope.cancel()

    async def run(self) -> bytes:
        """Serve request after request; return the bytes of the first that is not for the lane, or ``b""``."""
        while not self.lane.closing:
            try:
                head = await self._next_head()
            except TrillmError as error:
                await self._refuse(error)
                break
            if head is None:
                break
            if wants_websocket(head):
                mount = self.lane.mount
                if mount is None or not mount.takes(head.path):
                    await self._refuse(NotFound("No WebSocket is served here."), head)
                    break
                self.upgraded = mount.serve_websocket
                return head.raw + self.reader.unread()
            if not self._takes(head):
                if not self._is_mounted(head):
                    return head.raw + self.reader.unread()
                if not await self._answer_mounted(head):
                    break
                continue
            if not await self._answer(head):
                break
        return b""

    def _takes(self, head: RequestHead) -> bool:
        hot = head.path in _OPERATIONS and head.method == b"POST" and head.version == b"1.1"
        return hot and self.lane.enabled

    def _is_mounted(self, head: RequestHead) -> bool:
        mount = self.lane.mount
        if mount is None or not self.lane.enabled or head.version != b"1.1":
            return False
        # A HEAD is answered without a body, which the framework sees to.
        return head.method != b"HEAD" and mount.takes(head.path)

    async def _next_head(self) -> RequestHead | None:
        """Return the next request's head, or None when the client is done, silent, or we are closing."""
        head = self.reader.next_head()
        if head is None:
            if not await self._wait_for_a_byte():
                return None
            head = self.reader.next_head()
        if head is None:
            self.deadline = trio.current_time() + self.lane.settings.head_s
        while head is None:
            if not await self._receive():
                return None
            head = self.reader.next_head()
        return head

    async def _wait_for_a_byte(self) -> bool:
        self.deadline = trio.current_time() + self.lane.settings.idle_s
        self.idle = True
        came = await self._receive()
        self.idle = False
        return came

    async def _receive(self) -> bool:
        many = self.reader.body_left > RECEIVE_BYTES
        try:
            data = await self.stream.receive_some(MANY_BYTES if many else RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self.reader.feed(bytes(data))
        return bool(data)

    async def _answer(self, head: RequestHead) -> bool:
        """Answer one request; return whether the connection can carry another."""
        reply = LaneReply(self.stream, not head.keep_alive or self.lane.closing, self._cors(head))
        self.deadline = math.inf
        body: bytes | None = b""
        try:
            caller = self.lane.access.admit(head.headers, self.peer)
            body = await self._read_body(head)
            if body is None:
                return False
            call = read_call(
                _OPERATIONS[head.path],
                head.headers,
                body,
                caller=caller.key,
                grants=caller.grants,
                client=caller.client,
            )
        except TrillmError as error:
            return await self._refuse(error, head, body or b"")
        await self._handle(call, reply, self.lane.gateway)
        return reply.finished and not reply.closing

    async def _answer_mounted(self, head: RequestHead) -> bool:
        """Let the other face answer; return whether the connection can carry another request."""
        reply = LaneReply(self.stream, not head.keep_alive or self.lane.closing, self._cors(head))
        self.deadline = math.inf
        try:
            body = await self._read_body(head)
        except TrillmError as error:
            return await self._refuse(error, head)
        if body is None or self.lane.mount is None:
            return False
        path, method = head.path.decode("latin-1"), head.method.decode("latin-1")
        await self._handle(HttpRequest(method, path, head.headers, body, self.peer.address), reply, self.lane.mount)
        return reply.finished and not reply.closing

    async def _read_body(self, head: RequestHead) -> bytes | None:
        """Return the whole body, or None if the client left.

        Raises:
            TooLarge: over the limit.
            RequestTimeout: slower than ``body_s``.
        """
        body = BytesIO()
        promised = head.body_bytes or 0
        if not self._take_body(body):
            if head.expects_continue and not body.tell():
                await self.stream.send_all(answer.CONTINUE)
            within_s = self.lane.settings.body_s
            with trio.move_on_after(within_s) as scope:
                while not self._take_body(body):
                    if body.tell() >= MANY_BYTES and promised:
                        body, promised = _with_room(body, promised), 0
                    if not await self._receive():
                        return None
            if scope.cancelled_caught:
                raise RequestTimeout(f"The request body did not arrive within {within_s:g} s.")
        return body.getvalue()

    def _take_body(self, body: BytesIO) -> bool:
        """Add what has come of the body; return whether that was the end."""
        while piece := self.reader.next_body():
            body.write(piece)
        return piece is not None

    async def _handle(self, call: Any, reply: LaneReply, by: "Gateway | Mount") -> None:
        """Let the gateway or another face answer; a client that hangs up before the end of it cancels everything."""
        self._reply = reply
        if self._left:
            return
        if self.watched:
            await by.handle(call, reply)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_hang_up)
            await by.handle(call, reply)
            nursery.cancel_scope.cancel()

    async def _wait_for_hang_up(self) -> None:
        # What comes instead is a pipelined request. It is kept, and then there is nothing left to watch with.
        if not await self._receive():
            self.hung_up()

    async def _refuse(self, error: TrillmError, head: RequestHead | None = None, body: bytes = b"") -> bool:
        """Answer with ``error``; return whether the connection can carry another request."""
        at_edge = head is not None and self._is_body_read()
        reply = LaneReply(self.stream, not (at_edge and head is not None and head.keep_alive), self._cors(head))
        given = None if head is None else head.get(b"x-request-id")
        try:
            await send_error(reply, error, request_id(given), [], asked_at(head.path) if head else None, body)
        except ClientLeft:
            return False
        if reply.closing:
            await self._linger()
        return not reply.closing

    def _cors(self, head: RequestHead | None) -> Headers:
        cors = self.lane.access.cors
        return cors.headers(head.get(b"origin")) if cors.origins and head is not None else []

    def _is_body_read(self) -> bool:
        """Tell whether the whole body has come, dropping it. After an error in the stream the answer is no."""
        try:
            return self._take_body(BytesIO())
        except (TrillmError, RuntimeError):
            return False

    async def _linger(self) -> None:
        """Drop for a moment what the client still sends: a reset would take the answer from it (RFC 9112 §9.6)."""
        with trio.move_on_after(LINGER_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if isinstance(self.stream, trio.abc.HalfCloseableStream):
                await self.stream.send_eof()
            while await self.stream.receive_some(RECEIVE_BYTES):
                pass


def _with_room(body: BytesIO, size: int) -> BytesIO:
    """Return ``body`` in a buffer of its final size: growing there, it would be copied again and again.

    Not before much of it has come, for a head may promise anything.
    """
    roomy = BytesIO(bytes(size))  # zeros that take no memory until they are written over
    roomy.write(body.getbuffer())
    return roomy


def wants_websocket(head: RequestHead) -> bool:
    """Tell whether a request asks to become a WebSocket. Any other upgrade may be ignored (RFC 9110 §7.8)."""
    return head.upgrade and (head.get(b"upgrade") or b"").lower() == b"websocket"
