"""An answer that comes token by token: moved on as it comes, to its honest end.

Until the first content has been seen nothing is sent, so that everything can still be tried elsewhere. From then on
each wake's bytes leave in the same wake, carried by the pump where there is one. A stream ends in exactly one of three
ways: complete (the backend itself said so), with an error event, or as an aborted connection.
"""

from collections.abc import Awaitable, Callable

import msgspec
import trio
from attrs import define, field

from trillm.backends.base import Backend
from trillm.budget import Budget, Phase
from trillm.errors import BudgetSpent, TrillmError, UpstreamFailed
from trillm.gateway.call import Call
from trillm.gateway.incoming import MAX_ERROR_BYTES, content_type, reply_headers
from trillm.gateway.journey import Journey
from trillm.gateway.reply import Headers, Reply
from trillm.pool.pool import Lease
from trillm.sse import DONE, Frame, Kind, Scanner
from trillm.wire.exchange import Exchange
from trillm.wire.pump import Pump

#: After [DONE]: seconds for the response to end too, so that its connection can be used again.
TAIL_S = 0.25

_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_CONTENT = (Kind.CONTENT, Kind.FINISH, Kind.DONE)


async def no_stream(backend: Backend, exchange: Exchange) -> TrillmError | None:
    """Return why a 200 is no stream, None if it is. Taken for one, it would look to the SDKs like an empty answer."""
    kind = content_type(exchange)
    if kind.lower().startswith("text/event-stream"):
        return None
    hidden = backend.hidden_error(await exchange.read(MAX_ERROR_BYTES))
    return hidden or UpstreamFailed(f"the server answered with {kind!r} instead of a stream")


@define(eq=False)
class StreamRelay:
    """One stream on its way.

    Args:
        call: what was asked.
        lease: of the server that answers.
        exchange: where it comes from.
        reply: where it goes.
        journey: filled in.
        budget: told when content flows.
        pump: carries the bytes once it does, if there is one.
    """

    call: Call
    lease: Lease
    exchange: Exchange
    reply: Reply
    journey: Journey
    budget: Budget
    pump: Pump | None
    _scanner: Scanner = field(factory=Scanner, init=False)
    #: What is to be sent on next.
    _held: list[bytes] = field(factory=list, init=False)
    _has_content: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)
    _error: Frame | None = field(default=None, init=False)
    #: When the server last said anything but "still there".
    _progress: float = field(factory=trio.current_time, init=False)

    async def run(self) -> None:
        """Relay until the end.

        Raises:
            UpstreamFailed: it was cut or reported an error. If the reply has started, what was sent stands.
            BudgetSpent: it stalled in the pump.
            ClientLeft: nobody takes it.
        """
        while not self.reply.finished:
            if not await self._carry():
                data = await self.exchange.receive()
                self._scan(data, trio.current_time())
            await self._settle()
        await self.exchange.skip_rest(within_s=TAIL_S)

    def _scan(self, data: bytes, now: float) -> None:
        """Take one wake's bytes in, ``b""`` for the end: hold what is to be sent on, up to an error."""
        try:
            frames = self._scanner.feed(data) if data else self._scanner.end()
        except ValueError as exc:
            raise UpstreamFailed(f"the server's stream is broken: {exc}") from exc
        self._ended = not data
        self._note_progress(frames, now)
        for frame in frames:
            if frame.kind is Kind.ERROR:
                self._error = frame
                return
            self._hold(frame)

    def _note_progress(self, frames: list[Frame], now: float) -> None:
        """Tell a stream that stalls behind keep-alives, which llama.cpp sends every second, from one that flows."""
        if not frames or frames[0].kind is not Kind.COMMENT or any(f.kind is not Kind.COMMENT for f in frames):
            self._progress = now
        elif self.reply.started and now - self._progress >= self.budget.stall_s:
            raise BudgetSpent(Phase.STALL, self.budget.stall_s)

    def _hold(self, frame: Frame) -> None:
        if frame.usage is not None:
            self.journey.usage = frame.usage
        if frame.kind is Kind.MALFORMED:
            self.journey.malformed += 1
        if frame.kind in _CONTENT:
            self._has_content = True
        if frame.kind is not Kind.COMMENT or self.reply.started:  # a keep-alive must not commit us to a 200
            self._held.append(frame.raw)

    async def _settle(self) -> None:
        """Do what was seen asks for: send, finish, or fail."""
        if self._has_content and (self.reply.started or self._error is None):
            await self._forward()
        if self._error is not None:
            raise stream_error(self._error.error, self.lease.member.backend)
        if self._ended and not self.reply.finished:
            await self._finish_at_end()

    async def _forward(self) -> None:
        out = self._take_held()
        if self._scanner.done and self._error is None:
            await self._finish(out)
        else:
            await self._by_the_callers_time(self._send, out)

    async def _finish_at_end(self) -> None:
        """The response has ended; was that the end of the stream?"""
        if not self._scanner.complete:
            raise UpstreamFailed("the server's stream ended without saying that it was finished")
        await self._finish(DONE)

    async def _send(self, out: bytes) -> None:
        await self._start()
        if out:
            await self.reply.send(out)

    async def _finish(self, out: bytes) -> None:
        """Send the end. The call is answered: no budget can fail it any more."""
        self.budget.total_s = None
        self.budget.hold()
        await self._start()
        await self.reply.finish(out)

    async def _by_the_callers_time(self, send: Callable[..., Awaitable[None]], *out: bytes) -> None:
        """Run ``send``. What the caller is slow to take is not the server's stall, and cut short it leaves a torso."""
        began = trio.current_time()
        self.budget.hold()
        self.journey.torn = True
        await send(*out)
        self.journey.torn = False
        self.budget.flow()
        self._progress += trio.current_time() - began

    async def _start(self) -> None:
        if self.reply.started:
            return
        self.journey.content()
        self.lease.answering()
        self.journey.status = 200
        headers = _HEADERS + reply_headers(self.call, self.exchange, self.journey)
        await self.reply.start(200, headers, length=None)

    def _take_held(self) -> bytes:
        held, self._held = self._held, []
        return held[0] if len(held) == 1 else b"".join(held)

    async def _carry(self) -> bool:
        """Let the pump move what comes, until something is to be done here; return whether it did."""
        raw = self.exchange.raw
        flows = self.reply.started and self.reply.instant and not self.exchange.complete
        if self.pump is None or raw is None or not flows:
            return False
        self.budget.hold()
        try:
            alive = await self.pump.carry(raw, self._take, self._send_now, stall_s=self.budget.stall_s)
        except trio.BrokenResourceError as exc:
            raise UpstreamFailed("the server broke the connection") from exc
        if not alive:
            raise BudgetSpent(Phase.STALL, self.budget.stall_s)
        await self._by_the_callers_time(self.reply.flush)
        return True

    def _take(self, data: bytes, now: float) -> bytes | None:
        """One wake in the pump: scan, and say what can go at once. None is a matter for the stream's own task."""
        body = self.exchange.parse(data)
        if body:
            self._scan(body, now)
        if self._error is not None or self._scanner.done or self.exchange.complete:
            return None
        return self._take_held()

    def _send_now(self, out: bytes) -> bool:
        self.journey.torn = not self.reply.send_now(out)
        return not self.journey.torn


def stream_error(error: object, backend: Backend) -> TrillmError:
    """Turn what an error frame carries into an error of ours, keeping the server's words."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 600:
        return backend.error(code, (), msgspec.json.encode({"error": error}))
    message = error.get("message") if isinstance(error, dict) else error
    return UpstreamFailed(f"the server reported an error: {message}")
