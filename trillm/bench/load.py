"""The load generator: so many connections, each of which asks again as soon as it was answered (a closed loop).

It should cost much less than what it measures: raw sockets, one task for all that comes (:mod:`trillm.wire.poller`),
answers searched and not decoded (:mod:`trillm.bench.listener`). It stops by itself, by time or by count.
"""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from time import perf_counter

import trio
from attrs import define, field, frozen

from trillm.bench.asks import Ask
from trillm.bench.listener import Listener
from trillm.bench.tally import Tally
from trillm.errors import UpstreamFailed
from trillm.wire import net
from trillm.wire.poller import READABLE, Poller, open_poller
from trillm.wire.stream import RECEIVE_BYTES, RawStream, close_now

#: After a connection failed, so that a server that is gone is not hammered.
RETRY_S = 0.1


@frozen
class Load:
    """What a run does.

    Args:
        origin: where the connections go.
        asks: what each of them asks in turn, over and over.
        connections: how many, each with one request at a time.
        seconds: how long is counted.
        warmup_s: before that, at least; connections are opened one after the other over this time, and each is waited
            for until it had an answer (a server under load may take seconds to accept them). 0: no warm-up.
        max_requests: counting ends when so many have ended; None: when the time is over.
        patience_s: the most that is waited for the first answers, and for the last ones; what is unanswered then is
            an error.
    """

    origin: net.Origin
    asks: tuple[Ask, ...]
    connections: int
    seconds: float = 5.0
    warmup_s: float = 1.0
    max_requests: int | None = None
    patience_s: float = 15.0


async def run_load(
    load: Load, *, connect: net.Connect = net.connect, at_edges: Callable[[], None] = lambda: None
) -> Tally:
    """Run a load to its end and return what was measured. Cancellation closes all connections at once.

    Args:
        load: what to do.
        connect: opens a connection.
        at_edges: called twice, when counting begins and when it has ended; takes whatever else is to be measured.
    """
    async with open_poller() as poller:
        run = _Run(load, connect, poller)
        async with trio.open_nursery() as nursery:
            for index in range(load.connections):
                nursery.start_soon(run.hold_connection, index)
            if load.warmup_s:
                await trio.sleep(load.warmup_s)
                with trio.move_on_after(load.patience_s):
                    await run.warm.wait()
            await run.count(at_edges)
            nursery.cancel_scope.deadline = trio.current_time() + load.patience_s
    return run.result()


@define(eq=False)
class _Run:
    """A load under way."""

    load: Load
    connect: net.Connect
    poller: Poller | None
    tally: Tally = field(factory=Tally, init=False)
    over: bool = field(default=False, init=False)
    warm: trio.Event = field(factory=trio.Event, init=False)
    _cold: set[int] = field(init=False)
    _unanswered: int = field(default=0, init=False)
    _enough: trio.Event = field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._cold = set(range(self.load.connections))

    async def count(self, at_edge: Callable[[], None]) -> None:
        """Count for as long as the load says."""
        tally = self.tally
        at_edge()
        began = perf_counter()
        tally.counting = True
        with trio.move_on_after(self.load.seconds):
            await self._enough.wait()
        tally.counting = False
        tally.seconds = perf_counter() - began
        at_edge()
        self.over = True

    def ended(self, connection: int) -> None:
        """One more request has ended, which may be enough of them."""
        if connection in self._cold:
            self._cold.remove(connection)
            if not self._cold:
                self.warm.set()
        if self.load.max_requests is not None and self.tally.ended >= self.load.max_requests:
            self._enough.set()

    def result(self) -> Tally:
        """Return what was measured, with what was never answered as an error."""
        if self._unanswered:
            self.tally.errors[f"no answer within {self.load.patience_s:g} s of the end"] += self._unanswered
        return self.tally

    async def hold_connection(self, index: int) -> None:
        """Ask until it is over, on a new connection whenever one is lost."""
        await trio.sleep(self.load.warmup_s * index / self.load.connections)
        asks = islice(cycle(self.load.asks), index % len(self.load.asks), None)
        while not self.over:
            try:
                await self._talk(index, asks)
            except (UpstreamFailed, trio.BrokenResourceError) as exc:
                self.tally.errors[str(exc)] += self.tally.counting
                self.ended(index)
                await trio.sleep(RETRY_S)
            except trio.Cancelled:
                self._unanswered += 1
                raise

    async def _talk(self, index: int, asks: Iterator[Ask]) -> None:
        stream = await self.connect(self.load.origin)
        try:
            await _Line(self, index, stream, asks).talk()
        finally:
            close_now(stream)


@define(eq=False)
class _Line:
    """One connection, from its first request to the last."""

    run: _Run
    index: int
    stream: trio.abc.Stream
    asks: Iterator[Ask]
    listener: Listener = field(init=False)
    _unsent: bytes = field(default=b"", init=False)

    def __attrs_post_init__(self) -> None:
        self.listener = Listener(self.run.tally)

    async def talk(self) -> None:
        """Ask and listen until it is over or the server closes the connection."""
        self._unsent = self._next()
        while self._unsent:
            await self.stream.send_all(self._unsent)
            await self._listen()

    def _next(self) -> bytes:
        """Return the next request; nothing if there is none."""
        if self.run.over:
            return b""
        ask = next(self.asks)
        self.listener.begin(ask, perf_counter())
        return ask.raw

    async def _listen(self) -> None:
        """Wait until there is something to be sent that the kernel did not take at once, or nothing any more."""
        poller, stream = self.run.poller, self.stream
        if poller is not None and isinstance(stream, RawStream):
            await self._watch(stream, poller)
        else:
            while not self._hear(bytes(await stream.receive_some(RECEIVE_BYTES))):
                pass

    async def _watch(self, stream: RawStream, poller: Poller) -> None:
        """Sleep while the poller's task takes what comes and asks again."""
        over, failures = trio.Event(), list[Exception]()

        def ready() -> None:
            if over.is_set():
                return  # this task has not had its turn yet
            try:
                ends = self._step(stream)
            except (UpstreamFailed, trio.BrokenResourceError) as exc:
                failures.append(exc)
                ends = True
            if ends:
                over.set()

        with poller.watching(stream.socket, READABLE, ready):
            await over.wait()
        for failure in failures:
            raise failure

    def _step(self, stream: RawStream) -> bool:
        """Take what came, ask again if that was all; tell whether the connection's own task must go on."""
        try:
            data = stream.socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            raise trio.BrokenResourceError(f"connection lost: {exc.strerror}") from exc
        if not self._hear(data):
            return False
        if not self._unsent:
            return True
        self._unsent = self._unsent[stream.send_now(self._unsent) :]
        return bool(self._unsent)

    def _hear(self, data: bytes) -> bool:
        """Take what came; once the answer is whole, choose what is sent next."""
        if not self.listener.feed(data, perf_counter()):
            return False
        self.run.ended(self.index)
        self._unsent = self._next() if self.listener.reusable else b""
        return True
