"""A network of servers that are functions: a request in, an answer out, both httpx's values. For whoever connects."""

import inspect
from collections.abc import Awaitable, Callable

import httpx
import trio
from attrs import define, field

from trillm.wire.net import CannotConnect, Origin

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


def refused(request: httpx.Request) -> CannotConnect:
    """What a handler raises where nobody listens."""
    return CannotConnect(f"cannot connect to {request.url.netloc.decode()}: connection refused", "connection refused")


@define
class Network:
    """Connects to whatever address, and lets ``answer`` answer.

    Args:
        answer: raises what connecting raises where nobody is.
    """

    answer: Handler
    addresses: list[str | None] = field(factory=list, init=False)

    async def __call__(self, origin: Origin, *, at: str | None = None) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.addresses.append(at)
        return _Conversation(self.answer, origin)


@define(eq=False)
class _Conversation(trio.abc.Stream):
    """The client's end of a connection."""

    answer: Handler
    origin: Origin
    _sent: bytearray = field(factory=bytearray, init=False)
    _closed: bool = field(default=False, init=False)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._sent += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        head, _, body = bytes(self._sent).partition(b"\r\n\r\n")
        self._sent.clear()
        answer = self.answer(self._request(head, body))
        return _encoded(await answer if inspect.isawaitable(answer) else answer)

    def _request(self, head: bytes, body: bytes) -> httpx.Request:
        first, *lines = head.split(b"\r\n")
        method, target, _ = first.decode("ascii").split(" ")
        headers = [tuple(line.split(b": ", 1)) for line in lines]
        url = f"{self.origin.scheme}://{self.origin.authority}{target}"
        return httpx.Request(method, url, headers=headers, content=body)

    def close(self) -> None:
        self._closed = True

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


def _encoded(response: httpx.Response) -> bytes:
    framing = (b"content-length", b"transfer-encoding")
    headers = [header for header in response.headers.raw if header[0].lower() not in framing]
    lines = [b"%b: %b\r\n" % header for header in [*headers, (b"content-length", b"%d" % len(response.content))]]
    return b"HTTP/1.1 %d -\r\n%b\r\n%b" % (response.status_code, b"".join(lines), response.content)
