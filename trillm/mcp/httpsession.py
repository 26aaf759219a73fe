"""One session of the old era over Streamable HTTP: the same dialogue as on a WebSocket, spread over many requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import trio
from attrs import define, field

from trillm.gateway.access import Caller
from trillm.gateway.reply import Headers
from trillm.mcp.dialogue import Dialogue
from trillm.mcp.errors import CONNECTION_CLOSED, RpcError
from trillm.mcp.jsonrpc import MAX_IN_FLIGHT
from trillm.mcp.messages import error_message
from trillm.mcp.outlet import Outlet
from trillm.mcp.session import Ask, Notify, Params, View
from trillm.mcp.streams import Stream, Streams

#: The first version whose clients understand an event without a message.
PRIMED = "2025-11-25"
#: Milliseconds after which a client may come back for a stream that broke.
RETRY_MS = 1000
#: How long a reply may stay undecided between JSON and a stream: from then on it can be resumed.
UNDECIDED_S = 1.0
#: LSP's code for a request that was taken back.
CANCELLED = -32800

#: Where what is sent in a task goes: the stream of the request it answers.
_stream: ContextVar[Stream | None] = ContextVar("stream", default=None)


@define(eq=False)
class HttpChannel:
    """See :class:`trillm.mcp.jsonrpc.Channel`: requests come by other ways, so nothing is received here but the end."""

    streams: Streams = field(factory=Streams)
    ended: trio.Event = field(factory=trio.Event)

    async def receive(self) -> None:
        """Wait for the end."""
        await self.ended.wait()

    async def send(self, message: bytes) -> None:
        """Add a message to the stream it belongs to."""
        stream = _stream.get()
        # A task begun in a request may live on, and may come to speak to another client.
        if stream is None or stream.closed or stream.home is not self.streams:
            stream = self.streams.alone
        await stream.put(message)


@define(eq=False)
class HttpSession:
    """See the module.

    Args:
        view: what answers.
        path: it was opened at.
        caller: who opened it: it is nobody else's.
        mark: how its id begins.
    """

    view: View
    path: str
    caller: Caller
    mark: str = ""
    channel: HttpChannel = field(factory=HttpChannel, init=False)
    dialogue: Dialogue = field(init=False)
    last_used_s: float = field(factory=trio.current_time, init=False)
    #: HTTP requests that are being served.
    visitors: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.dialogue = Dialogue(self.view, self.channel, self.caller, MAX_IN_FLIGHT, binds=_bound)
        self.dialogue.id = self.mark + self.dialogue.id
        self.dialogue.peer.on_settled = _close_stream
        # In this era a reply must say something.
        self.dialogue.peer.taken_back = RpcError(CANCELLED, "The request was cancelled.")

    @property
    def id(self) -> str:
        """What its client knows it by."""
        return self.dialogue.id

    @property
    def headers(self) -> Headers:
        """What goes with each reply."""
        return [(b"mcp-session-id", self.id.encode())]

    @property
    def opened(self) -> bool:
        """Whether its handshake has succeeded."""
        return self.dialogue.session is not None

    @contextmanager
    def visited(self) -> Iterator[None]:
        """Note that a request is served, for the time of the block."""
        self.visitors += 1
        try:
            yield
        finally:
            self.visitors -= 1
            self.last_used_s = trio.current_time()

    def belongs_to(self, caller: Caller, path: str) -> bool:
        """Tell whether it was opened with the same key, at the same path."""
        return (caller.key, path) == (self.caller.key, self.path)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until :meth:`end`."""
        try:
            await self.dialogue.serve(task_status=task_status)
        finally:
            self.channel.streams.close()

    def end(self) -> None:
        """End it: what runs is cancelled, what is read ends."""
        self.channel.ended.set()

    async def finish(self) -> None:
        """Let what runs be answered, then end."""
        await self.dialogue.peer.finish()
        self.end()

    async def tell(self, message: Params) -> None:
        """Take a notification, or an answer to a request of ours."""
        await self.dialogue.peer.take(message)

    async def answer(self, message: Params, outlet: Outlet) -> None:
        """Take a request and answer it. A client that hangs up can come back for the rest."""
        stream = self.channel.streams.open()
        before = _stream.set(stream)
        try:
            await self.dialogue.peer.take(message)
        finally:
            _stream.reset(before)
        with trio.move_on_after(UNDECIDED_S):
            await stream.begun()
        answer = stream.the_answer()
        if answer is not None:
            await outlet.answer(answer)
        elif stream.closed and stream.empty:
            await outlet.answer(error_message(message["id"], RpcError(CONNECTION_CLOSED, "The session has ended.")))
        else:
            await self.pour(stream, 0, outlet)

    async def pour(self, stream: Stream, after: int | None, outlet: Outlet) -> None:
        """Send the rest of a stream, as it comes.

        Args:
            stream: one of this session's.
            after: the number of the last message that the client has; None is whatever was read before.
            outlet: where to.
        """
        with stream.reading(after) as reader:
            await self._open(stream, outlet)
            while (found := await stream.next(reader)) is not None:
                event_id, message = found
                await outlet.tell(message, event_id)
            await outlet.end()

    async def _open(self, stream: Stream, outlet: Outlet) -> None:
        session = self.dialogue.session
        if session is not None and session.version >= PRIMED:
            await outlet.prime(stream.event_id(), RETRY_MS)
        else:
            await outlet.comment()


def _close_stream() -> None:
    stream = _stream.get()
    if stream is not None:
        stream.close()


def _bound(notify: Notify, ask: Ask) -> tuple[Notify, Ask]:
    """Make both send on the stream of the request that is being answered, whatever task they are called in."""
    stream = _stream.get()

    async def bound_notify(method: str, params: Params) -> None:
        before = _stream.set(stream)
        try:
            await notify(method, params)
        finally:
            _stream.reset(before)

    async def bound_ask(method: str, params: Params) -> Params:
        before = _stream.set(stream)
        try:
            return await ask(method, params)
        finally:
            _stream.reset(before)

    return bound_notify, bound_ask
