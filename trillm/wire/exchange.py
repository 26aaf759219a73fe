"""One HTTP/1.1 request and its response on a kept-alive connection, owned by a ``with`` block.

Whatever happens inside the block, leaving it either returns the connection to :class:`Connections` (the response was
read to its end and the server keeps it open) or closes it at once, which is how a backend learns that nobody waits any
more. There is no other place where a connection is freed, and no background task.
"""

import contextlib
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import trio
from attrs import define, field, frozen

from trillm.budget import Budget, Phase
from trillm.errors import UpstreamFailed
from trillm.wire import net
from trillm.wire.response import ResponseReader
from trillm.wire.stream import RECEIVE_BYTES, RawStream, close_now, send_soon, transport

#: A connection that was used this recently is not asked whether it is still there: asking is a system call, and one
#: that turns out dead is replaced all the same.
_SURE_S = 0.1


#: Awaits a read that it is given, and may do something else when that takes long: the read can be begun anew.
Patience = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]


@define(eq=False)
class Request:
    """What goes to a backend.

    Args:
        origin: where it goes.
        head: request line and headers, ending in the empty line.
        body: bytes, as counted by the head's content-length.
    """

    origin: net.Origin
    head: bytes = field(repr=False)
    body: bytes = field(repr=False)


@frozen
class Endpoint:
    """Where POSTs to one path go, and what their heads begin with: all that never changes.

    Args:
        origin: whom to connect to.
        path: with its query, in ASCII.
        opening: request line and first headers.
    """

    origin: net.Origin
    path: str
    opening: bytes = field(init=False, repr=False)

    @opening.default
    def _open(self) -> bytes:
        return (
            f"POST {self.path} HTTP/1.1\r\nhost: {self.origin.authority}\r\n"
            "content-type: application/json\r\naccept-encoding: identity\r\n"
        ).encode("ascii")


def build_request(endpoint: Endpoint, headers: list[tuple[bytes, bytes]], body: bytes) -> Request:
    """Build a POST of JSON; Content-Length is added here."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    return Request(
        endpoint.origin, b"%bcontent-length: %d\r\n%b\r\n" % (endpoint.opening, len(body), b"".join(lines)), body
    )


@define(eq=False)
class Connection:
    """An open connection, whether its current request went out whole, and how far the response has been read."""

    origin: net.Origin
    stream: trio.abc.Stream
    reader: ResponseReader = field(factory=ResponseReader)
    sent: bool = False
    idle_since: float = 0.0
    reused: bool = False

    async def send(self, request: Request) -> None:
        """Send the request, small ones in one segment at the end of the round."""
        self.sent = False
        if len(request.body) <= 64 * 1024:
            whole = request.head + request.body
            if not send_soon(self.stream, whole):
                await self.stream.send_all(whole)
        else:
            await self.stream.send_all(request.head)
            await self.stream.send_all(request.body)
        self.sent = True

    async def read_more(self) -> None:
        """Wait for the next bytes and parse them.

        Raises:
            UpstreamFailed: reset, closed too early, or not HTTP.
        """
        try:
            data = await self.stream.receive_some(RECEIVE_BYTES)
        except trio.BrokenResourceError as exc:
            raise UpstreamFailed("the server broke the connection") from exc
        self.take(bytes(data))

    def take(self, data: bytes) -> None:
        """Parse what came; ``b""`` is the server's end."""
        if data:
            self.reader.feed(data)
        else:
            self.reader.feed_eof()

    @property
    def reusable(self) -> bool:
        """Whether another request can follow on it."""
        unsent = isinstance(self.stream, RawStream) and self.stream.unsent
        return self.sent and not unsent and self.reader.complete and self.reader.keep_alive


@define
class Connections:
    """The idle keep-alive connections to all backends, closed at the end of a ``with`` block.

    Args:
        connect: opens a stream to an origin; tests inject in-memory ones.
        connect_s: seconds a new connection may take, TLS included.
        keep_alive_s: seconds an idle connection is trusted; below the 5 s after which uvicorn and cpp-httplib
            close theirs.
        max_idle: connections kept per origin.
        repeats: whether a request whose kept connection turns out dead is sent again on a new one. Where it must
            not be, each connection is asked first whether it is still there.
    """

    connect: net.Connect = net.connect
    connect_s: float = 3.0
    keep_alive_s: float = 4.0
    max_idle: int = 256
    repeats: bool = True
    opened: int = field(default=0, init=False)
    _idle: dict[net.Origin, list[Connection]] = field(factory=dict, init=False, repr=False)
    _next_sweep: float = field(default=-math.inf, init=False, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close_idle()

    def exchange(
        self, request: Request, budget: Budget, answer_phase: Phase = Phase.TOTAL, patience: Patience | None = None
    ) -> "Exchange":
        """Return the context manager that sends ``request`` and yields its response.

        Args:
            request: what to send, and where.
            budget: told what the time goes into.
            answer_phase: the name of the wait for the answer.
            patience: see :data:`Patience`.
        """
        return Exchange(self, request, budget, answer_phase, patience)

    def take_idle(self, origin: net.Origin) -> Connection | None:
        """Return the youngest usable idle connection, closing what has gone stale."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if self._fresh(connection):
                connection.reused = True
                connection.reader.reset()
                return connection
            close_now(connection.stream)
        return None

    async def open(self, origin: net.Origin) -> Connection:
        """Open a new connection.

        Raises:
            UpstreamFailed: refused, unreachable, or slower than ``connect_s``.
        """
        with trio.move_on_after(self.connect_s):
            stream = await self.connect(origin)
            self.opened += 1
            return Connection(origin, stream)
        raise UpstreamFailed(f"cannot connect to {origin.authority} within {self.connect_s:g} s")

    def put_back(self, connection: Connection) -> None:
        """Keep ``connection`` for the next request, or close it if it cannot carry one."""
        now = trio.current_time()
        self._sweep(now)
        idle = self._idle.setdefault(connection.origin, [])
        if connection.reusable and len(idle) < self.max_idle:
            connection.idle_since = now
            idle.append(connection)
        else:
            close_now(connection.stream)

    def close_idle(self, origin: net.Origin | None = None) -> None:
        """Close the idle connections to ``origin``, or to everyone."""
        for key in [origin] if origin else list(self._idle):
            for connection in self._idle.pop(key, []):
                close_now(connection.stream)

    def idle_count(self) -> int:
        """How many idle connections are kept, over all origins."""
        return sum(map(len, self._idle.values()))

    def _sweep(self, now: float) -> None:
        """Close what has been idle too long, wherever it goes; at most once per ``keep_alive_s``.

        The youngest is taken first, so after a burst the others would never be looked at again.
        """
        if now < self._next_sweep:
            return
        self._next_sweep = now + self.keep_alive_s
        for idle in self._idle.values():
            while idle and now - idle[0].idle_since > self.keep_alive_s:
                close_now(idle.pop(0).stream)

    def _fresh(self, connection: Connection) -> bool:
        idle_s = trio.current_time() - connection.idle_since
        if idle_s > self.keep_alive_s:
            return False
        if idle_s < _SURE_S and self.repeats:
            return True
        raw = transport(connection.stream)
        return not (isinstance(raw, RawStream) and raw.went_stale())


@define(eq=False)
class Exchange:
    """``async with connections.exchange(request, budget) as exchange``: the response of one request."""

    _connections: Connections
    _request: Request
    _budget: Budget
    _answer_phase: Phase
    patience: Patience | None = None
    #: How far the response has been read.
    reader: ResponseReader = field(init=False)
    connected: float | None = field(default=None, init=False)
    _connection: Connection | None = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        """Send the request and wait for the head of the response.

        Raises:
            UpstreamFailed: no connection, or it broke. A kept-alive connection that turns out dead before one
                byte was answered is replaced once: its server had closed it before it saw the request.
        """
        try:
            await self._exchange_heads()
        except BaseException:
            self._release()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._release()

    async def _exchange_heads(self) -> None:
        connection = self._connections.take_idle(self._request.origin)
        if connection is not None:
            self._connection = connection
            try:
                await self._send_and_wait(connection)
            except UpstreamFailed:
                if connection.reader.started or not self._connections.repeats:
                    raise
                self._release()
            else:
                return
        self._budget.phase = Phase.CONNECT
        self._connection = await self._connections.open(self._request.origin)
        await self._send_and_wait(self._connection)

    async def _send_and_wait(self, connection: Connection) -> None:
        self.reader = connection.reader
        self.connected = trio.current_time()
        self._budget.phase = self._answer_phase
        # A server may refuse a body before it has read it all (413) and close: its answer says more than the break.
        with contextlib.suppress(trio.BrokenResourceError):
            await connection.send(self._request)
        while not self.reader.head_complete:
            await (connection.read_more() if self.patience is None else self.patience(connection.read_more))

    @property
    def status(self) -> int:
        """The response's status."""
        return self.reader.status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response's headers, names in lower case."""
        return self.reader.headers

    @property
    def raw(self) -> RawStream | None:
        """The socket the response comes from, for who reads it himself, or None if it is none (TLS, tests)."""
        stream = self._open.stream
        return stream if isinstance(stream, RawStream) else None

    @property
    def complete(self) -> bool:
        """Whether the response has been parsed to its end."""
        return self.reader.complete

    def parse(self, data: bytes) -> bytes:
        """Take bytes that somebody else read (``b""``: the server closed); return the body bytes among them.

        Raises:
            UpstreamFailed: they are no HTTP, or the end was not a clean one.
        """
        self._open.take(data)
        return self.reader.take_body()

    async def receive(self) -> bytes:
        """Return the body bytes of the next wake, or ``b""`` at a clean end.

        Raises:
            UpstreamFailed: the end was not a clean one.
        """
        body = self.reader.take_body()
        while not body and not self.reader.complete:
            read_more = self._open.read_more
            await (read_more() if self.patience is None else self.patience(read_more))
            body = self.reader.take_body()
        return body

    async def read(self, max_bytes: int) -> bytes:
        """Return the rest of the body.

        Raises:
            UpstreamFailed: it is larger than ``max_bytes``, or cut.
        """
        reader, connection = self.reader, self._open
        while not reader.complete and reader.body_bytes <= max_bytes:
            await connection.read_more()
        if reader.body_bytes > max_bytes:
            raise UpstreamFailed(f"the server's answer is larger than {max_bytes} bytes")
        return reader.take_body()

    async def skip_rest(self, *, within_s: float) -> None:
        """Read to the end what is of no more interest, so that the connection can be used again, but not for long.

        Raises nothing: a connection that breaks now is closed, and that is all.
        """
        with contextlib.suppress(UpstreamFailed), trio.move_on_after(within_s):
            while await self.receive():
                pass

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("the exchange is not entered")
        return self._connection

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connections.put_back(connection)
