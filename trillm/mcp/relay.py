"""What an upstream says beside its answers, on its way to the client it is for, in the order it was said.

Owns no connection: notifications wait in an :class:`Outbox` and leave it one after the other, before the answer does.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import trio
from attrs import define, field

from trillm.mcp.errors import RpcError, method_not_found
from trillm.mcp.messages import Id
from trillm.mcp.session import CAPABILITY, LEVELS, RESOURCE_UPDATED, Notify, Params, Request, Session
from trillm.mcp.upstream import OnProgress
from trillm.registry.mcpentries import McpServer

log = logging.getLogger(__name__)

PROGRESS = "notifications/progress"
MESSAGE = "notifications/message"
SAMPLING = "sampling/createMessage"

#: Notifications of one call that wait for its client; the oldest give way.
MOST_WAITING = 1000

#: Answers a ``sampling/createMessage`` by the model of that name.
Sampler: TypeAlias = Callable[[str, Params], Awaitable[Params]]


@define(eq=False)
class Outbox:
    """Sends what is put in, in order, by a task that exists only while there is something.

    Args:
        nursery: for that task.
    """

    nursery: trio.Nursery
    _waiting: deque[tuple[Notify, str, Params]] = field(factory=lambda: deque(maxlen=MOST_WAITING), init=False)
    _empty: trio.Event | None = field(default=None, init=False)

    def put(self, send: Notify, method: str, params: Params) -> None:
        """Have a notification sent; does not wait."""
        self._waiting.append((send, method, params))
        if self._empty is None:
            self._empty = trio.Event()
            self.nursery.start_soon(self._send_all, self._empty)

    async def flush(self) -> None:
        """Wait until everything is sent."""
        if self._empty is not None:
            await self._empty.wait()

    def close(self) -> None:
        """Forget what has not been sent."""
        self._waiting.clear()

    async def _send_all(self, empty: trio.Event) -> None:
        try:
            while self._waiting:
                send, method, params = self._waiting.popleft()
                await send(method, params)
        except RpcError:
            self._waiting.clear()  # it has gone
        finally:
            self._empty = None
            empty.set()


@define(eq=False)
class Errand:
    """One call of a client that an upstream works on: where its progress and log messages go."""

    request: Request
    outbox: Outbox

    @property
    def on_progress(self) -> OnProgress | None:
        """Passes progress on under the client's own token; None if the client wants none."""
        return None if self.request.progress_token is None else self._progress

    def _progress(self, params: Params) -> None:
        token = self.request.progress_token
        self.outbox.put(self.request.notify, PROGRESS, {**params, "progressToken": token})

    def tell(self, method: str, params: Params) -> None:
        """Pass a notification on, unless it is a log message the client does not want."""
        level = params.get("level")
        if method != MESSAGE or (level in LEVELS and self.request.wants_log(level)):
            self.outbox.put(self.request.notify, method, params)


@contextmanager
def errand(request: Request, nursery: trio.Nursery) -> Iterator[Errand]:
    """Have an errand for the time of a call."""
    outbox = Outbox(nursery)
    try:
        yield Errand(request, outbox)
    finally:
        outbox.close()


@define(eq=False)
class Relay:
    """Between one session of a client of the old era and the session with an upstream that is its alone.

    Args:
        server: the upstream.
        session: the client's.
        nursery: for sending.
        sampler: answers for the client when the server's entry names a model.
        changed: told of the change notices that came by.
        active: the calls that run, the latest last.
        subscribed: resources, by the upstream's URI, and the URI by which the client knows each.
    """

    server: McpServer
    session: Session
    nursery: trio.Nursery
    sampler: Sampler | None
    changed: Callable[[str], None]
    active: list[Errand] = field(factory=list, init=False)
    subscribed: dict[str, str] = field(factory=dict, init=False)
    _outbox: Outbox = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._outbox = Outbox(self.nursery)

    @property
    def capabilities(self) -> Params:
        """What the upstream may ask: what the client declared, and sampling if trillm answers that."""
        return capabilities(self.server, dict(self.session.capabilities))

    async def answer(self, _id: Id, method: str, params: Params) -> Params:
        """Ask the client what the upstream asks; it does not say for which call, and the latest is the likeliest."""
        if (own := await answered_here(self.server, self.sampler, method, params)) is not None:
            return own
        if method not in CAPABILITY:
            raise method_not_found(method)
        ask = self.active[-1].request.ask if self.active else self.session.ask
        return await ask(method, params)

    def hear(self, method: str, params: Params) -> None:
        """Pass a notification on."""
        if method.endswith("/list_changed"):
            self.changed(method)
        if method == RESOURCE_UPDATED:
            uri = params.get("uri")
            self.session.tell_soon(method, {**params, "uri": self.subscribed.get(str(uri), uri)})
        elif self.active:
            self.active[-1].tell(method, params)
        elif method != PROGRESS:
            self._outbox.put(self.session.notify, method, params)


def capabilities(server: McpServer, declared: Params) -> Params:
    """Return what an upstream is told that it may ask for."""
    return {"sampling": {}, **declared} if server.sampling else declared


async def answered_here(server: McpServer, sampler: Sampler | None, method: str, params: Params) -> Params | None:
    """Return trillm's own answer to an upstream's request, or None when that is for the client."""
    if method == "ping":
        return {}
    if method == SAMPLING and server.sampling and sampler is not None:
        log.info("mcp sampling server=%s model=%s", server.name, server.sampling)
        return await sampler(server.sampling, params)
    return None
