"""A gateway before servers in memory, and a caller that notes what it is answered."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import trio
from attrs import define, field

from support.pools import a_pool, a_route, a_server, found, in_use
from support.servers import Script, Servers, Step, ok
from trillm.errors import UpstreamFailed
from trillm.gateway.call import Call, read_call
from trillm.gateway.gateway import Gateway
from trillm.gateway.journey import Journey, RequestFinished
from trillm.gateway.limits import Limits
from trillm.gateway.reply import ClientLeft, Headers
from trillm.metrics import Metrics
from trillm.models import Operation
from trillm.pool.breaker import Breaker
from trillm.pool.pool import Pool
from trillm.registry.document import Budgets, Route, Server
from trillm.registry.entries import INHERIT
from trillm.wire.exchange import Connections
from trillm.wire.net import Origin
from trillm.wire.pump import Pump


@define
class RecordingReply:
    """Notes what it is given, and whether it is used as the protocol says.

    Args:
        takes_s: seconds that each call takes: a slow client.
        leaves_at: the name of the call at which the client turns out to have left.
        defect: what that call raises instead.
    """

    takes_s: float = 0
    leaves_at: str | None = None
    defect: Exception | None = None
    status: int = 0
    headers: dict[bytes, bytes] = field(factory=dict)
    length: int | None = None
    pieces: list[bytes] = field(factory=list)
    endings: list[str] = field(factory=list)
    misused: list[str] = field(factory=list)
    started: bool = False

    @property
    def finished(self) -> bool:
        return "finish" in self.endings

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def instant(self) -> bool:
        return False

    async def start(self, status: int, headers: Headers, *, length: int | None) -> None:
        self._must(not self.started, "started twice")
        self._must(len(dict(headers)) == len(headers), "a header twice")
        self.started = True
        self.status, self.headers, self.length = status, dict(headers), length
        await self._take("start")

    async def send(self, data: bytes) -> None:
        self._must(self.started and not self.endings, "sent before the start or after the end")
        self._must(bool(data), "nothing sent")
        self.pieces.append(data)
        await self._take("send")

    async def finish(self, data: bytes = b"") -> None:
        self._must(self.started and not self.endings, "finished before the start or after the end")
        self.endings.append("finish")
        self.pieces.append(data)
        self._must(self.length in (None, len(self.body)), "another length than was said")
        await self._take("finish")

    # Not asked of a reply that is not `instant`.

    def send_now(self, data: bytes) -> bool:
        raise NotImplementedError

    async def flush(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        self._must(self.started and not self.endings, "aborted before the start or after the end")
        self.endings.append("abort")

    def _must(self, rule: bool, broken: str) -> None:
        if not rule:
            self.misused.append(broken)

    async def _take(self, name: str) -> None:
        if self.leaves_at == name:
            raise self.defect or ClientLeft
        if self.takes_s:
            await trio.sleep(self.takes_s)

    def error(self) -> dict[str, Any]:
        """The error object of an answer that is one."""
        return json.loads(self.body)["error"]

    def events(self) -> list[Any]:
        """The data of each event of a stream, decoded; ``"[DONE]"`` stays as it is."""
        data = [
            event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event.startswith("data: ")
        ]
        return [event if event == "[DONE]" else json.loads(event) for event in data]


@define(eq=False)
class Rig:
    """A gateway and everything around it."""

    gateway: Gateway
    pool: Pool
    connections: Connections
    servers: dict[str, Servers]
    journeys: list[Journey]

    async def ask(self, call: Call | None = None, reply: RecordingReply | None = None) -> RecordingReply:
        reply = reply or RecordingReply()
        await self.gateway.handle(call or a_call(), reply)
        return reply

    @property
    def journey(self) -> Journey:
        """The record of the only call there was."""
        (journey,) = self.journeys
        return journey

    async def left(self) -> dict[str, Any]:
        """What is still in use, by what it is; nothing should be."""
        open_now = sum([await servers.still_open() for servers in self.servers.values()])
        counts = {
            "slots": in_use(self.pool),
            "connections": open_now - self.connections.idle_count(),
            "calls": self.gateway.running,
        }
        return {what: count for what, count in counts.items() if count}


def a_rig(
    nursery: trio.Nursery,
    *servers: Server,
    scripts: dict[str, Sequence[Script]],
    routes: Sequence[Route] = (),
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
    pump: Pump | None = None,
    **network: Any,
) -> Rig:
    """A gateway before these servers, which all serve ``m`` and follow the scripts; without one they refuse.

    What else is given is for :class:`support.servers.Servers`.
    """
    pool, _ = a_pool(*servers, routes=routes)
    for member in pool.members.values():
        pool.probed(member, found("m"))
    behind = {name: Servers(nursery, script, **network) for name, script in scripts.items()}

    async def connect(origin: Origin) -> trio.abc.Stream:
        name = origin.host.removesuffix(".example")
        if name not in behind:
            await trio.lowlevel.checkpoint()
            raise UpstreamFailed(f"cannot connect to {origin.authority}: connection refused")
        return await behind[name].connect(origin)

    journeys: list[Journey] = []

    def publish(event: object) -> None:
        if isinstance(event, RequestFinished):
            journeys.append(event.journey)

    connections = Connections(connect)
    gateway = Gateway(pool, connections, lambda: limits, publish, Metrics(), pump)
    return Rig(gateway, pool, connections, behind, journeys)


def a_call(
    operation: Operation = Operation.CHAT, *headers: tuple[bytes, bytes], model: str = "m", **members: Any
) -> Call:
    """A call as a client would make it."""
    needed = {
        Operation.CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
        Operation.COMPLETIONS: {"prompt": "Hi"},
        Operation.EMBEDDINGS: {"input": "Hi"},
        Operation.RERANK: {"query": "Hi", "documents": ["a"]},
        Operation.RESPONSES: {"input": "Hi"},
        Operation.RESPONSE_TOKENS: {"input": "Hi"},
        Operation.MESSAGES: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
        Operation.MESSAGE_TOKENS: {"messages": [{"role": "user", "content": "Hi"}]},
    }[operation]
    return read_call(operation, headers, msgspec.json.encode({"model": model} | needed | members))


# ── what servers say ────────────────────────────────────────────────────────────────────────────────────────────

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"


def chunk(*data: bytes) -> bytes:
    """One chunk of a chunked body."""
    joined = b"".join(data)
    return b"%x\r\n%b\r\n" % (len(joined), joined)


def event(**data: Any) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def delta(finish_reason: str | None = None, **delta: str) -> bytes:
    return event(id="c1", choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])


ROLE = delta(role="assistant")
FINISH = delta("stop")
ERROR = event(error={"message": "out of memory", "type": "server_error", "code": None})
WHOLE = {"id": "c1", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Hello"}}]}


def tok(text: str) -> bytes:
    """A frame with a token."""
    return delta(content=text)


JSON = b"content-type: application/json\r\n"
GOOD = ok(msgspec.json.encode(WHOLE), JSON)
FRAMES = [ROLE, tok("Hel"), tok("lo"), FINISH, DONE]
GOOD_STREAM = STREAM + b"".join(map(chunk, FRAMES)) + END
STREAMED = {"stream": True}
#: A stream that flows, for eight seconds, and does not end.
FLOWING = [STREAM + chunk(tok("a")), 4.0, chunk(tok("b")), 4.0, chunk(tok("c"))]


def answers(status: int, body: bytes = b"{}", *headers: bytes) -> bytes:
    """An answer with a status."""
    head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n" % (status, len(body))
    return head + b"".join(headers) + b"\r\n" + body


# ── the usual rigs ──────────────────────────────────────────────────────────────────────────────────────────────


def one(nursery: trio.Nursery, *steps: Step, budgets: Budgets = INHERIT, **settings: Any) -> Rig:
    """A gateway before one server, that takes these steps for every request."""
    server = a_server("one", max_concurrent=2, budgets=budgets)
    return a_rig(nursery, server, scripts={"one": [[steps] * 9]}, **settings)


def two(nursery: trio.Nursery, first: Sequence[Step] | None, second: Sequence[Step] = (GOOD,), **settings: Any) -> Rig:
    """A gateway before a route to a server that takes the first steps, and another to fall back to."""
    scripts: dict[str, Sequence[Script]] = {"two": [[second] * 9]}
    if first is not None:
        scripts["one"] = [[first]] * 9
    servers = [a_server("one", max_concurrent=1), a_server("two", max_concurrent=1)]
    return a_rig(nursery, *servers, scripts=scripts, routes=[a_route("r", "one/m", fallback=["two/m"])], **settings)


def unblamed(rig: Rig) -> list[str]:
    """The servers whose breaker has nothing to remember."""
    return [name for name, member in rig.pool.members.items() if member.breaker == Breaker()]
