"""The simulator as a server: connections, what is in flight, and the pace of answers.

:func:`serve_sim` is started by the application as its builtin backend, by ``trillm sim`` and by benchmarks;
:func:`handle_connection` by tests, on in-memory streams. A client that leaves ends its request at once, and
``GET /sim/stats`` shows that it did. What is answered is :mod:`trillm.sim.endpoints`', when is
:mod:`trillm.sim.script`'s.
"""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

import msgspec
import trio
from attrs import asdict, define, evolve, field

from trillm.errors import TrillmError
from trillm.sim import endpoints, script
from trillm.sim.endpoints import Voice
from trillm.sim.script import Act, Answer
from trillm.sim.settings import Cue, Pace, SimSettings
from trillm.wire import answer as wire
from trillm.wire.request import RequestReader
from trillm.wire.request_head import RequestHead
from trillm.wire.stream import RawStream

log = logging.getLogger(__name__)

#: Parsing, embedding or ranking a body larger than this would hold up every other stream: a thread does it.
THREAD_BYTES = 64 * 1024
#: A client may send so much of its next requests ahead; more waits in the kernel until it is their turn.
AHEAD_BYTES = 64 * 1024


@define
class Stats:
    """What goes on: requests that generate something, and connections. Looked at by tests.

    Args:
        started: requests that were understood; each ends as one of the next two.
        finished: answered as planned, faults included.
        aborted: left by their client, or ended by a shutdown.
        connections: open now.
    """

    started: int = 0
    finished: int = 0
    aborted: int = 0
    connections: int = 0

    @property
    def in_flight(self) -> int:
        """Requests that are waiting for a slot or being answered."""
        return self.started - self.finished - self.aborted

    def to_json(self) -> bytes:
        """Return all of them as a JSON object."""
        return msgspec.json.encode({"in_flight": self.in_flight, **asdict(self)})


@define(eq=False)
class Simulator:
    """One simulated server, whatever its connections come from.

    Args:
        settings: how it behaves.
    """

    settings: SimSettings
    stats: Stats = field(factory=Stats, init=False)
    voice: Voice = field(init=False)
    slot: AbstractAsyncContextManager[None] = field(init=False)
    _rng: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self._rng = random.Random(settings.seed)  # noqa: S311 - repeatable on purpose, no secret
        self.voice = Voice(settings.tokens, self._rng.getrandbits(32) if settings.seed is None else settings.seed)
        self.slot = nullcontext() if settings.slots is None else trio.Semaphore(settings.slots)

    def cue(self, direction: Pace) -> Cue:
        """Decide how the next answer is to go."""
        return Cue.of(self.settings, direction, self._rng)


async def serve_sim(
    settings: SimSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a simulator until cancelled; cancellation ends its connections at once.

    Args:
        settings: how it behaves.
        host: address to listen on.
        port: 0: any that is free.
        task_status: told the URL once it accepts connections.
    """
    simulator = Simulator(settings)

    async def handle(stream: trio.SocketStream) -> None:
        await handle_connection(RawStream.take_over(stream), simulator)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_listeners, handle, await trio.open_tcp_listeners(port, host=host))
        task_status.started(_url(host, listeners[0].socket.getsockname()[1]))


async def serve_builtin(at: Callable[[str], None], *, task_status: trio.TaskStatus[None]) -> None:
    """Serve trillm's builtin backend on this machine, and tell ``at`` where: after a restart that is another port."""
    async with trio.open_nursery() as nursery:
        at(await nursery.start(serve_sim, SimSettings()))
        task_status.started()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def handle_connection(stream: trio.abc.Stream, simulator: Simulator) -> None:
    """Answer the requests of one connection, then close it. No error leaves this.

    Args:
        stream: owned from now on.
        simulator: shared by all connections.
    """
    simulator.stats.connections += 1
    try:
        async with stream:
            await _Conversation(stream, simulator).hold()
    except trio.BrokenResourceError as exc:
        log.debug("connection lost reason=%s", exc)
    except Exception:
        log.exception("connection failed")
    finally:
        simulator.stats.connections -= 1


@define(eq=False)
class _Conversation:
    """One connection's requests, one after the other."""

    stream: trio.abc.Stream
    simulator: Simulator
    reader: RequestReader = field(factory=RequestReader, init=False)

    async def hold(self) -> None:
        try:
            while await self._exchange():
                pass
        except TrillmError as exc:
            await self.stream.send_all(_closing(endpoints.failure(exc)).whole())

    async def _exchange(self) -> bool:
        """Answer the next request; tell whether another may follow."""
        head = await self._head()
        if head is None:
            return False
        if head.expects_continue:
            await self.stream.send_all(wire.CONTINUE)
        body = await self._body()
        if body is None:
            return False
        goes_on = head.keep_alive and head.version == b"1.1"
        answer = await self._respond(head, body)
        if head.version == b"1.0":
            answer = answer.in_one_piece()
        return await self._give(answer if goes_on else _closing(answer)) and goes_on

    async def _head(self) -> RequestHead | None:
        """Wait for a request; None: the client left instead."""
        while (head := self.reader.next_head()) is None:
            if not await self._receive():
                return None
        return head

    async def _body(self) -> bytes | None:
        """Wait for the rest of the request; None: the client left instead."""
        pieces: list[bytes] = []
        while (piece := self.reader.next_body()) != b"":
            if piece is not None:
                pieces.append(piece)
            elif not await self._receive():
                return None
        return b"".join(pieces)

    async def _receive(self) -> bool:
        """Wait for more bytes; tell whether there were any."""
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        self.reader.feed(bytes(data))
        return bool(data)

    async def _respond(self, head: RequestHead, body: bytes) -> Answer:
        if head.path == b"/sim/stats":
            return Answer(self.simulator.stats.to_json())
        respond = partial(endpoints.respond, head.method, head.path, body, self.simulator.voice)
        answer = await trio.to_thread.run_sync(respond) if len(body) > THREAD_BYTES else respond()
        return evolve(answer, bodiless=True) if head.method == b"HEAD" else answer

    async def _give(self, answer: Answer) -> bool:
        """Send an answer at its pace; tell whether the connection is still of use."""
        if answer.direction is None:
            await self.stream.send_all(answer.whole())
            return True
        cue = self.simulator.cue(answer.direction)
        acts = script.play(answer, cue)
        at_once = cue.at_once and self.simulator.settings.slots is None
        stats, finished = self.simulator.stats, False
        stats.started += 1
        try:
            # Watching for the client to leave costs a nursery and a task: only what has to wait pays for it.
            finished = await (self._play(acts) if at_once else self._play_watching(acts))
        finally:
            stats.finished += finished
            stats.aborted += not finished
        return finished and cue.fault not in script.FATAL

    async def _play_watching(self, acts: Iterator[Act]) -> bool:
        """Play until the end or until the client leaves; tell which of the two."""
        finished = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            finished = await self._play(acts)
            nursery.cancel_scope.cancel()
        return finished

    async def _watch(self, scope: trio.CancelScope) -> None:
        """End the answer when the client leaves; keep what it sends ahead."""
        while len(self.reader.unread()) < AHEAD_BYTES:
            if not await self._receive():
                scope.cancel()
                return

    async def _play(self, acts: Iterator[Act]) -> bool:
        """Send everything at its time; tell whether the client took it."""
        async with self.simulator.slot:
            at = trio.current_time()
            for pause_s, data in acts:
                at += pause_s
                await _until(at)
                try:
                    await self.stream.send_all(data)
                except trio.BrokenResourceError:
                    return False
        return True


async def _until(at: float) -> None:
    if at > trio.current_time():
        await trio.sleep_until(at)
    else:  # four times as fast, and a stream without pauses still lets others run
        await trio.lowlevel.checkpoint()


def _closing(answer: Answer) -> Answer:
    return evolve(answer, headers=(*answer.headers, (b"connection", b"close")))
