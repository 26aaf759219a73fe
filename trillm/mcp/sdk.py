"""The only module that touches the SDK's server where it may change: middleware, connections, the session manager.

The SDK speaks Streamable HTTP; every request and notification it takes is handed, as the JSON it was, to a
:class:`~trillm.mcp.session.View`, so nothing is lost in its typed models. What is provisional in ``mcp`` 2.3 and used
here: ``Server.middleware``, ``ServerSession._connection`` and ``_request_outbound``, and the session manager's
``event_store``, ``_server_instances`` and ``_discard_session``.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import trio
from attrs import define, field, frozen
from mcp.server import Server
from mcp.server.context import CallNext, ServerRequestContext
from mcp.server.streamable_http import EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.dispatcher import Outbound
from mcp.shared.exceptions import MCPError

from trillm.gateway.access import Caller
from trillm.mcp import protocol
from trillm.mcp.errors import RpcError
from trillm.mcp.eventstore import RecentEvents
from trillm.mcp.session import Ask, Notify, Params, Request, Session, View
from trillm.mcp.subscriptions import attach

Context: TypeAlias = ServerRequestContext[Any, Any]
Asgi: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

#: Where an ASGI scope holds its :class:`Visit`, and a connection its session.
VISIT = "trillm.visit"
#: Milliseconds after which a client of the old era is asked to look again for a stream that ended.
RETRY_MS = 1000

#: Whom the request being looked at came from: the SDK's lookup of a tool's schema is told only the tool.
_visiting: ContextVar["Visit"] = ContextVar("visiting")


# Of each session that comes and goes we know as much ourselves.
logging.getLogger("mcp.server").setLevel(logging.WARNING)


@frozen(eq=False)
class Visit:
    """Who sent an HTTP request, and to what."""

    caller: Caller
    view: View
    path: str


class _Manager(StreamableHTTPSessionManager):
    """The SDK's manager, for which each session remembers its own messages."""

    @property
    def event_store(self) -> EventStore | None:
        """A fresh one for each who asks: the manager asks once per session."""
        return RecentEvents()

    @event_store.setter
    def event_store(self, _value: EventStore | None) -> None:
        """The constructor sets it."""


@define(eq=False)
class HttpSessions:
    """Streamable HTTP as an ASGI application, with the sessions of the old era.

    Args:
        nursery: for what is told beside requests.
        message_bytes: the largest request body.
    """

    nursery: trio.Nursery
    message_bytes: int
    running: int = field(default=0, init=False)
    manager: _Manager = field(init=False)
    #: Path and key that a session was opened with: it is nobody else's.
    _owners: dict[str, tuple[str, str | None]] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        server: Server[Any] = Server("trillm", get_tool_input_schema=_input_schema)
        # Instead of the SDK's own, which traces: 30 to 150 microseconds a call for nobody.
        server.middleware[:] = [self._answer]
        # Who may call was decided before (trillm.gateway.access), by the same rules for every face.
        trusting = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self.manager = _Manager(
            server, retry_interval=RETRY_MS, security_settings=trusting, max_request_body_size=self.message_bytes
        )

    def owns(self, visit: Visit, session_id: str) -> bool:
        """Tell whether a session was opened by this caller, at this path."""
        return self._owners.get(session_id) == (visit.path, visit.caller.key)

    async def serve(self, visit: Visit, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        _visiting.set(visit)
        await self.manager.asgi_app({**scope, VISIT: visit}, receive, send)

    async def end_all(self) -> None:
        """End every session."""
        for session_id, transport in tuple(self.manager._server_instances.items()):  # noqa: SLF001 - see the module
            await self.manager._discard_session(session_id, transport)  # noqa: SLF001

    # ── the SDK's middleware ────────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, ctx: Context, call_next: CallNext) -> Any:
        visit: Visit = ctx.request.scope[VISIT]  # type: ignore[union-attr]  # HTTP always has one
        if ctx.request_id is None:
            return await self._take_notification(visit, ctx, call_next)
        try:
            if ctx.method == "initialize":
                return await self._initialize(visit, ctx, call_next)
            session = self._session(visit, ctx)
            if session is None:
                return await call_next(ctx)  # refuses what comes before `initialize`
            return await protocol.answer(visit.view, self._request(ctx, session))
        except RpcError as exc:
            raise MCPError(exc.code, exc.message, exc.data) from exc

    def _request(self, ctx: Context, session: Session) -> Request:
        outbound = ctx.session._request_outbound  # noqa: SLF001 - see the module
        params = dict(ctx.params or {})
        assert ctx.request_id is not None  # noqa: S101 - see _answer
        return Request(ctx.request_id, ctx.method, params, session, _teller(outbound), _asker(outbound))

    def _session(self, visit: Visit, ctx: Context) -> Session | None:
        connection = ctx.session._connection  # noqa: SLF001 - see the module
        if ctx.protocol_version < "2026":
            session: Session | None = connection.state.get(VISIT)
            return session
        _, capabilities, client = protocol.read_envelope(ctx.method, dict(ctx.params or {}))
        return Session("", visit.caller, ctx.protocol_version, capabilities, client)

    async def _initialize(self, visit: Visit, ctx: Context, call_next: CallNext) -> Params:
        negotiated = await call_next(ctx)
        assert isinstance(negotiated, dict)  # noqa: S101 - the SDK has made it fit for the wire
        connection, params = ctx.session._connection, dict(ctx.params or {})  # noqa: SLF001 - see the module
        session = Session(
            connection.session_id or "",
            visit.caller,
            negotiated["protocolVersion"],
            params["capabilities"],
            params["clientInfo"],
            _teller(connection),
            _asker(connection),
            self.nursery.start_soon,
        )
        described = await protocol.describe(visit.view, session)
        connection.state[VISIT] = session
        connection.exit_stack.callback(self._ended, session)
        self._owners[session.id] = (visit.path, visit.caller.key)
        attach(session, visit.view.changes)
        return described

    def _ended(self, session: Session) -> None:
        self._owners.pop(session.id, None)
        session.end()

    async def _take_notification(self, visit: Visit, ctx: Context, call_next: CallNext) -> None:
        await call_next(ctx)
        session = ctx.session._connection.state.get(VISIT)  # noqa: SLF001 - see the module
        if session is not None:
            await visit.view.notified(session, ctx.method, dict(ctx.params or {}))


@asynccontextmanager
async def open_http_sessions(message_bytes: int) -> AsyncIterator[HttpSessions]:
    """Serve Streamable HTTP for the time of the block."""
    async with trio.open_nursery() as nursery:
        sessions = HttpSessions(nursery, message_bytes)
        async with sessions.manager.run():
            yield sessions
        nursery.cancel_scope.cancel()


def _teller(outbound: Any) -> Notify:
    async def notify(method: str, params: Params) -> None:
        await outbound.notify(method, params)

    return notify


def _asker(outbound: Outbound) -> Ask:
    async def ask(method: str, params: Params) -> Params:
        try:
            return await outbound.send_raw_request(method, params)
        except MCPError as exc:
            raise RpcError(exc.code, exc.message, exc.data) from exc

    return ask


def _input_schema(tool: str) -> Mapping[str, Any] | None:
    visit = _visiting.get()
    return visit.view.input_schema(Session("", visit.caller, "2026-07-28"), tool)
