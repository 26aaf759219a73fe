"""One client on a connection of its own (WebSocket, stdio): the first request decides which era it is served in."""

import logging
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial

import trio
from attrs import define, field

from trillm.gateway.access import Caller
from trillm.mcp import protocol
from trillm.mcp.errors import INVALID_REQUEST, UNSUPPORTED_VERSION, RpcError
from trillm.mcp.jsonrpc import MAX_IN_FLIGHT, Channel, Peer
from trillm.mcp.messages import Id
from trillm.mcp.session import MODERN, Ask, Notify, Params, Request, Session, View
from trillm.mcp.subscriptions import attach

log = logging.getLogger(__name__)

#: Notifications of one client that wait for their turn; more are dropped.
MAX_WAITING = 256


@define(eq=False)
class Dialogue:
    """Serves one connection.

    Args:
        view: what answers.
        channel: to the client.
        caller: who it is.
        max_in_flight: its requests at once.
        id: of its session.
        binds: makes notifications and requests of ours belong to the request that is being answered, where that makes
            a difference.
    """

    view: View
    channel: Channel
    caller: Caller
    max_in_flight: int = MAX_IN_FLIGHT
    id: str = field(factory=partial(secrets.token_hex, 16))
    binds: Callable[[Notify, Ask], tuple[Notify, Ask]] = lambda notify, ask: (notify, ask)
    session: Session | None = field(default=None, init=False)
    peer: Peer = field(init=False)
    _is_modern: bool | None = field(default=None, init=False)
    _told: deque[tuple[str, Params]] = field(factory=deque, init=False, repr=False)
    _nursery: trio.Nursery | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # In turn: a client that sends its first requests right behind the handshake is not to be told to make one.
        in_turn = frozenset({"initialize"})
        self.peer = Peer(self.channel, self._answer, self._notified, self.max_in_flight, in_turn)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until the client leaves."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self.peer.run(task_status=task_status)
                self._nursery.cancel_scope.cancel()
        finally:
            if self.session is not None:
                self.session.end()

    def renew(self, caller: Caller) -> None:
        """Note that the caller may use other things from now on."""
        self.caller = caller
        if self.session is not None:
            self.session.caller = caller

    async def _answer(self, id: Id, method: str, params: Params) -> Params:  # noqa: A002 - the protocol's word
        if self._is_modern is None and method != "ping":
            self._is_modern = method != "initialize" and protocol.has_envelope(params)
        if method == "initialize":
            return await self._initialize(params)
        session = self._modern_session(method, params) if self._is_modern else self._old_session(method, params)
        notify, ask = self.binds(self.peer.notify, session.ask)
        return await protocol.answer(self.view, Request(id, method, params, session, notify, ask))

    async def _initialize(self, params: Params) -> Params:
        if self._is_modern:
            data = {"supported": [MODERN], "requested": str(params.get("protocolVersion"))}
            raise RpcError(UNSUPPORTED_VERSION, "This connection began without a handshake; it cannot have one.", data)
        if self.session is not None:
            raise RpcError(INVALID_REQUEST, "This connection is initialized already.")
        version = protocol.negotiate(params.get("protocolVersion"))
        protocol.check("initialize", version, params)
        self.session = Session(
            self.id,
            self.caller,
            version,
            params["capabilities"],
            params["clientInfo"],
            self.peer.notify,
            self.peer.request,
            None if self._nursery is None else self._nursery.start_soon,
        )
        attach(self.session, self.view.changes)
        return await protocol.describe(self.view, self.session)

    def _modern_session(self, method: str, params: Params) -> Session:
        version, capabilities, client = protocol.read_envelope(method, params)
        return Session(self.id, self.caller, version, capabilities, client)

    def _old_session(self, method: str, params: Params) -> Session:
        if protocol.has_envelope(params):
            raise RpcError(INVALID_REQUEST, "This connection began with a handshake; it takes no request envelopes.")
        if self.session is not None:
            return self.session
        if method == "ping":
            return Session("", self.caller, protocol.negotiate(None))
        raise RpcError(INVALID_REQUEST, f"Send 'initialize' before {method!r}.")

    def _notified(self, method: str, params: Params) -> None:
        if self.session is None:
            return  # nothing a client of the new era tells is for anybody but the transport
        if len(self._told) >= MAX_WAITING:
            log.warning("notification dropped method=%s", method)
            return
        self._told.append((method, params))
        if len(self._told) == 1 and self._nursery is not None:
            self._nursery.start_soon(self._pass_on_notifications, self.session)

    async def _pass_on_notifications(self, session: Session) -> None:
        """Pass on what waits, in order. A task only while there is something: most clients tell nothing."""
        while self._told:
            try:
                await self.view.notified(session, *self._told[0])
            except Exception:
                log.exception("notification broken")
            self._told.popleft()
