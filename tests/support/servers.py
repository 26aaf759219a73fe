"""Servers in memory: what each connection is answered is a script, and whether the client closed it can be seen."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence

import trio
import trio.testing
from attrs import define, field

from trillm.wire.net import Origin

#: What a server does once it has read a request: sends bytes, or what a function makes of the request; waits
#: seconds; or, as the last step, closes.
Step = bytes | float | None | Callable[[bytes], bytes]
CLOSE = None
#: One connection: the steps for its first request, for its second, …
Script = Sequence[Sequence[Step]]


def ok(body: bytes, *headers: bytes) -> bytes:
    return b"".join([b"HTTP/1.1 200 OK\r\n", *headers, b"content-length: %d\r\n\r\n%b" % (len(body), body)])


def echo(request: bytes) -> bytes:
    return ok(request.partition(b"\r\n\r\n")[2])


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def read_request(stream: trio.abc.ReceiveStream, *, piece_bytes: int = 65536, pause_s: float = 0) -> bytes:
    """Return one request, or ``b""`` when the client has left."""
    request = bytearray()
    length = None
    while length is None or len(request) < length:
        await trio.sleep(pause_s)
        piece = await stream.receive_some(piece_bytes)
        if not piece:
            return b""
        request += piece
        head, end, _ = request.partition(b"\r\n\r\n")
        if end:
            length = len(head) + 4 + int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    return bytes(request)


@define(eq=False)
class Servers:
    """What is behind :meth:`connect`: the n-th connection follows the n-th script, later ones the last.

    Args:
        nursery: where they run.
        scripts: at least one.
        connect_takes_s: seconds until a connection is there.
        make_pair: makes both ends of a connection.
        reads: returns one request from a stream, as :func:`read_request`.
    """

    nursery: trio.Nursery
    scripts: Sequence[Script]
    connect_takes_s: float = 0.0
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair
    reads: Callable[..., Awaitable[bytes]] = read_request
    requests: list[bytes] = field(factory=list, init=False)
    streams: list[trio.abc.Stream] = field(factory=list, init=False)
    ended: int = field(default=0, init=False)

    async def connect(self, origin: Origin) -> trio.abc.Stream:
        await trio.sleep(self.connect_takes_s)
        ours, theirs = self.make_pair()
        script = self.scripts[min(len(self.streams), len(self.scripts) - 1)]
        self.streams.append(ours)
        self.nursery.start_soon(self._serve, theirs, script)
        return ours

    async def _serve(self, stream: trio.abc.Stream, script: Script) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                await self._follow(stream, script)
        self.ended += 1

    async def _follow(self, stream: trio.abc.Stream, script: Script) -> None:
        for steps in script:
            request = await self.reads(stream)
            if not request:
                return
            self.requests.append(request)
            for step in steps:
                if step is CLOSE:
                    return
                if isinstance(step, (int, float)):
                    await trio.sleep(step)
                else:
                    await stream.send_all(step(request) if callable(step) else step)
        await stream.receive_some()

    async def still_open(self) -> int:
        """How many of the client's streams are not closed; a byte that waits in one is lost."""
        return sum([not await is_closed(stream) for stream in self.streams])


async def is_closed(stream: trio.abc.ReceiveStream) -> bool:
    try:
        with trio.move_on_after(1e-6):  # not 0: that would be cancelled before it looks
            await stream.receive_some(1)
    except trio.ClosedResourceError:
        return True
    return False
