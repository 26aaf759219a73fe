"""Moves one answer from the backend to the caller, and tells an honest ending from a cut one.

Until the first content has been seen nothing is sent, so that everything can still be tried elsewhere. From then on
each wake's bytes leave in the same wake. A stream ends in exactly one of three ways: complete (the backend itself said
so), with an error event, or as an aborted connection.
"""

import msgspec
from attrs import define, field, frozen

from trillm.backends.base import Backend
from trillm.budget import Budget
from trillm.errors import TrillmError, UpstreamFailed
from trillm.gateway.call import Call
from trillm.gateway.journey import Journey
from trillm.gateway.reply import Headers, Reply
from trillm.pool.pool import Lease
from trillm.sse import DONE, Frame, Kind, Scanner, Usage
from trillm.wire.exchange import Exchange

MAX_PLAIN_BYTES = 256 * 1024 * 1024
MAX_ERROR_BYTES = 1024 * 1024
#: After [DONE]: seconds for the response to end too, so that its connection can be used again.
TAIL_S = 0.25

#: Response headers that are between the backend and us, or that we write ourselves.
_OURS = frozenset(
    b"connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade content-length "
    b"content-type date server set-cookie x-request-id cache-control server-timing x-accel-buffering "
    b"x-trillm-server".split()
)
_STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class _Plain(msgspec.Struct):
    usage: Usage | None = None


_decode_plain = msgspec.json.Decoder(_Plain).decode


async def refused(exchange: Exchange, backend: Backend) -> TrillmError:
    """Read a backend's error answer; return what it means."""
    body = await exchange.read(MAX_ERROR_BYTES)
    return backend.error(exchange.status, exchange.headers, body)


@frozen
class PlainAnswer:
    """A whole answer that is ready to go."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)

    async def send(self, reply: Reply) -> None:
        """Send it. By then its server is free again: the caller may be slow."""
        await reply.start(self.status, self.headers, length=len(self.body))
        await reply.finish(self.body)


async def read_plain(call: Call, lease: Lease, exchange: Exchange, journey: Journey) -> PlainAnswer:
    """Read a whole answer.

    Raises:
        UpstreamFailed: it is no JSON object, or an error in disguise.
    """
    backend = lease.member.backend
    body = await exchange.read(MAX_PLAIN_BYTES)
    error = backend.hidden_error(body)
    if error is not None:
        raise error
    body = backend.reply_body(call.operation, call.body, body, exchange.headers)
    journey.usage = _usage(body, exchange)
    journey.content()
    headers = [(b"content-type", b"application/json"), *reply_headers(call, exchange, journey)]
    return PlainAnswer(exchange.status, headers, body)


def reply_headers(call: Call, exchange: Exchange, journey: Journey) -> Headers:
    """Return the headers of a good answer: what the backend said that is the caller's business, and our own."""
    passed = [h for h in exchange.headers if h[0] not in _OURS and not h[0].startswith(b"access-control-")]
    return [
        *passed,
        (b"x-request-id", call.id.encode()),
        (b"x-trillm-server", (journey.server or "").encode()),
        (b"server-timing", journey.server_timing()),
    ]


def _usage(body: bytes, exchange: Exchange) -> Usage | None:
    try:
        return _decode_plain(body).usage
    except msgspec.ValidationError:
        return None  # valid JSON, of a shape whose usage we cannot count
    except msgspec.DecodeError as exc:
        kind = _content_type(exchange)
        raise UpstreamFailed(f"the server's answer is not JSON ({kind!r}, {len(body)} bytes)") from exc


async def relay_stream(
    call: Call, lease: Lease, exchange: Exchange, reply: Reply, journey: Journey, budget: Budget
) -> None:
    """Pass a stream on, to its honest end.

    Raises:
        UpstreamFailed: it was cut or reported an error. If :attr:`Reply.started`, what was sent stands.
    """
    if not _is_stream(exchange):
        raise await _no_stream(lease.member.backend, exchange)
    relay = _StreamRelay(call, exchange, reply, journey, budget)
    while not relay.over:
        await relay.take(await exchange.receive())
    await exchange.skip_rest(within_s=TAIL_S)


def _is_stream(exchange: Exchange) -> bool:
    return _content_type(exchange).startswith("text/event-stream")


async def _no_stream(backend: Backend, exchange: Exchange) -> TrillmError:
    """Return why a 200 is no stream. Taken for one, it would look to the SDKs like an answer without words."""
    hidden = backend.hidden_error(await exchange.read(MAX_ERROR_BYTES))
    return hidden or UpstreamFailed(f"the server answered with {_content_type(exchange)!r} instead of a stream")


def _content_type(exchange: Exchange) -> str:
    return dict(exchange.headers).get(b"content-type", b"").decode("latin-1")


@define(eq=False)
class _StreamRelay:
    """The state of one stream between two wakes."""

    call: Call
    exchange: Exchange
    reply: Reply
    journey: Journey
    budget: Budget
    over: bool = False
    _scanner: Scanner = field(factory=Scanner, init=False)
    _held: list[bytes] = field(factory=list, init=False)

    async def take(self, data: bytes) -> None:
        """Handle one wake's bytes; ``b""`` is the end of the response."""
        frames = self._scan(data) if data else self._scanner.end()
        error = self._keep(frames)
        if self.reply.started or (error is None and _worth_starting(frames)):
            await self._forward()
        if error is not None:
            raise stream_error(error.error)
        if not data and not self.over:
            await self._finish_at_end()

    def _scan(self, data: bytes) -> list[Frame]:
        try:
            return self._scanner.feed(data)
        except ValueError as exc:
            raise UpstreamFailed(f"the server's stream is broken: {exc}") from exc

    def _keep(self, frames: list[Frame]) -> Frame | None:
        """Keep what is to be sent on, up to an error frame, which is returned."""
        for frame in frames:
            if frame.kind is Kind.ERROR:
                return frame
            if frame.usage is not None:
                self.journey.usage = frame.usage
            if frame.kind is Kind.COMMENT and not self.reply.started:
                continue  # a keep-alive must not commit us to a 200
            self._held.append(frame.raw)
        return None

    async def _forward(self) -> None:
        if not self.reply.started:
            await self._start()
        out = b"".join(self._held)
        self._held.clear()
        # What the caller is slow to take is not the backend's stall.
        self.budget.hold()
        if self._scanner.done:
            await self._finish(out)
        elif out:
            await self.reply.send(out)
        self.budget.flow()

    async def _start(self) -> None:
        self.journey.content()
        self.journey.status = 200
        headers = _STREAM_HEADERS + reply_headers(self.call, self.exchange, self.journey)
        await self.reply.start(200, headers, length=None)

    async def _finish_at_end(self) -> None:
        """The response has ended; was that the end of the stream?"""
        if not self._scanner.complete:
            raise UpstreamFailed("the server's stream ended without saying that it was finished")
        if not self.reply.started:
            await self._start()
        await self._finish(DONE)

    async def _finish(self, out: bytes) -> None:
        self.over = True
        await self.reply.finish(out)


def _worth_starting(frames: list[Frame]) -> bool:
    return any(frame.kind in (Kind.CONTENT, Kind.FINISH, Kind.DONE) for frame in frames)


def stream_error(error: object) -> TrillmError:
    """Turn what an error frame carries into an error of ours, keeping the backend's words."""
    message = error.get("message") if isinstance(error, dict) else error
    return UpstreamFailed(f"the server reported an error: {message}")
