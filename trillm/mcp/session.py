"""The seam between transports and what answers: a transport makes a :class:`Request`, a :class:`View` answers it.

Both are at the level of JSON objects, so that whatever a newer revision adds passes through. A transport has checked
method, version and parameters before; it owns the task a request is answered in, and cancels that task when the client
takes the request back or leaves.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from attrs import define, field, frozen

from trillm.gateway.access import Caller
from trillm.mcp.errors import INVALID_REQUEST, MISSING_CAPABILITY, RpcError

Params: TypeAlias = dict[str, Any]
Notify: TypeAlias = Callable[[str, Params], Awaitable[None]]
Ask: TypeAlias = Callable[[str, Params], Awaitable[Params]]

#: From here on a request brings all it needs, and a server asks nothing (SEP-2322).
MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

TOOLS_CHANGED = "notifications/tools/list_changed"
PROMPTS_CHANGED = "notifications/prompts/list_changed"
RESOURCES_CHANGED = "notifications/resources/list_changed"
RESOURCE_UPDATED = "notifications/resources/updated"
#: No notification: what :class:`Changes` says last.
CLOSED = ""

#: What a client must have declared before it may be asked.
CAPABILITY = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}


async def _nobody_to_tell(_method: str, _params: Params) -> None:
    """Drop what a client without a channel for it would have been told: notifications promise nothing."""


async def _nobody_to_ask(method: str, _params: Params) -> Params:
    raise RpcError(INVALID_REQUEST, f"This client cannot be asked: {method} has no way back to it.")


@define(eq=False)
class Session:
    """Who a client is and what may be sent to it beside its requests.

    In the old era one per ``initialize``, living as long as the session; in the new era one per request.

    Args:
        id: unique among sessions.
        caller: who it is, and what it may use.
        version: of the protocol.
        capabilities: what the client declared.
        client: its ``clientInfo``.
        notify: sends a notification that belongs to no request. Dropped where there is no channel for it.
        ask: sends a request that belongs to no request of the client's, and returns the result.
        start_soon: runs a task of the transport's, which ends with the client; None where nothing can be told.
        log_level: what the client asked to be told (``logging/setLevel``); None is what is of interest to people.
        subscribed: the resources it wants to be told of (``resources/subscribe``).
    """

    id: str
    caller: Caller
    version: str
    capabilities: Mapping[str, Any] = field(factory=dict)
    client: Mapping[str, Any] = field(factory=dict)
    notify: Notify = _nobody_to_tell
    ask: Ask = _nobody_to_ask
    start_soon: Callable[[Callable[[], Awaitable[None]]], None] | None = None
    log_level: str | None = None
    subscribed: set[str] = field(factory=set)
    _waiting: dict[tuple[str, str], Params] = field(factory=dict, init=False, repr=False)
    _telling: bool = field(default=False, init=False)
    _endings: list[Callable[[], None]] = field(factory=list, init=False, repr=False)
    ended: bool = field(default=False, init=False)

    @property
    def is_modern(self) -> bool:
        """Whether it speaks the stateless era's protocol."""
        return self.version >= MODERN

    def tell_soon(self, method: str, params: Params) -> None:
        """Send a notification of a change when the client takes it; two of the same change become one."""
        if self.start_soon is None or self.ended:
            return
        self._waiting[method, str(params.get("uri", ""))] = params
        if not self._telling:
            self._telling = True
            self.start_soon(self._tell)

    async def _tell(self) -> None:
        while self._waiting:
            method, uri = next(iter(self._waiting))
            # Taken out before: what changes again while this is told is told again.
            await self.notify(method, self._waiting.pop((method, uri)))
        self._telling = False

    def on_end(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, without waiting, when the session ends; at once if it has."""
        if self.ended:
            callback()
        else:
            self._endings.append(callback)

    def end(self) -> None:
        """Called by the transport when the client has gone, however it went."""
        self.ended = True
        while self._endings:
            self._endings.pop()()


@frozen(eq=False)
class Request:
    """One request of a client, to be answered with a result object or by raising :class:`RpcError`.

    Args:
        id: the client's own.
        method: e.g. ``tools/call``.
        params: as they came, ``_meta`` included.
        session: whose it is.
        notify: sends a notification that belongs to this request, before its answer, in order.
        ask: sends a request of ours on this request's channel. The new era has none: return ``input_required``.
    """

    id: str | int
    method: str
    params: Params
    session: Session
    notify: Notify = _nobody_to_tell
    ask: Ask = _nobody_to_ask

    @property
    def meta(self) -> Params:
        """The ``_meta`` object, which may be missing."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def progress_token(self) -> str | int | None:
        """What the client knows the progress of this request by, or None if it wants none."""
        return self.meta.get("progressToken")

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far it is, if the client wants to know."""
        if self.progress_token is None:
            return
        told: Params = {"progressToken": self.progress_token, "progress": progress, "total": total, "message": message}
        await self.notify("notifications/progress", {name: value for name, value in told.items() if value is not None})

    def wants_log(self, level: str) -> bool:
        """Tell whether the client is to be sent a log message of ``level``, by the rules of its era."""
        wanted = self.meta.get(f"{META}logLevel") if self.session.is_modern else self.session.log_level or "info"
        return wanted in LEVELS and LEVELS.index(level) >= LEVELS.index(wanted)

    async def log(self, level: str, data: Any, logger: str = "trillm") -> None:
        """Send a log message, if the client wants those of ``level``."""
        if self.wants_log(level):
            await self.notify("notifications/message", {"level": level, "logger": logger, "data": data})

    def require(self, method: str) -> None:
        """Raise :class:`RpcError` unless the client declared that it can be asked ``method``."""
        capability = CAPABILITY[method]
        if capability not in self.session.capabilities:
            data: Params = {"requiredCapabilities": {capability: {}}}
            raise RpcError(MISSING_CAPABILITY, f"The client did not declare {capability!r}.", data)


@define(eq=False)
class Changes:
    """Tells whoever listens what has changed: ``notifications/…/list_changed``, ``notifications/resources/updated``.

    Listeners are called at once and must not wait. The last they hear is :data:`CLOSED`.
    """

    closed: bool = field(default=False, init=False)
    _listeners: list[Callable[[str, Params], None]] = field(factory=list, init=False, repr=False)

    def publish(self, method: str, params: Params | None = None) -> None:
        """Tell everyone."""
        for listener in tuple(self._listeners):
            listener(method, params or {})

    def close(self) -> None:
        """Say that nothing more will be told, so that streams of changes can be ended."""
        self.closed = True
        self.publish(CLOSED)

    @contextmanager
    def heard_by(self, listener: Callable[[str, Params], None]) -> Iterator[None]:
        """Call ``listener`` for the time of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def hear_until_end(self, session: Session, listener: Callable[[str, Params], None]) -> None:
        """Call ``listener`` until ``session`` ends."""
        self._listeners.append(listener)
        session.on_end(lambda: self._listeners.remove(listener))


class View(Protocol):
    """What an endpoint serves: trillm's own tools with all upstreams', or one upstream's."""

    @property
    def changes(self) -> Changes:
        """What those who subscribed are told."""

    async def describe(self, session: Session) -> Params:
        """Return ``capabilities``, ``serverInfo`` and, if there are any, ``instructions``.

        Asked for by ``initialize`` and ``server/discover``.
        """

    async def handle(self, request: Request) -> Params:
        """Answer a request, every method but ``initialize``, ``server/discover`` and ``ping``.

        Cancelled when the client cancels the request or leaves.

        Raises:
            RpcError: what to answer instead.
            TrillmError: likewise.
        """

    async def notified(self, session: Session, method: str, params: Params) -> None:
        """Take a notification of the client, e.g. ``notifications/roots/list_changed``.

        ``initialized`` and ``cancelled`` are the transport's; they are passed on all the same.
        """

    def input_schema(self, session: Session, tool: str) -> Params | None:
        """Return a tool's input schema if it is known without asking anybody, for headers that repeat arguments."""
