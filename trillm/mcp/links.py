"""Everything one registered upstream has at work, and how a client's request gets to it, whatever the two eras are.

Eras are mirrored where the upstream speaks both. Clients of the new era share one session. A client of the old era has
a session of its own, in which the upstream may keep what it likes and ask back. Where the eras differ,
:mod:`trillm.mcp.parking` and :mod:`trillm.mcp.rounds` bridge.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import trio
from attrs import define, field

from trillm.mcp import rounds
from trillm.mcp.errors import METHOD_NOT_FOUND, TOO_MANY_REQUESTS, RpcError, method_not_found
from trillm.mcp.groups import Groups
from trillm.mcp.link import Link
from trillm.mcp.listing import Listing, Lists
from trillm.mcp.messages import Id
from trillm.mcp.parking import Parking
from trillm.mcp.relay import MESSAGE, Errand, Relay, Sampler, answered_here, capabilities, errand
from trillm.mcp.session import (
    META,
    PROMPTS_CHANGED,
    RESOURCE_UPDATED,
    RESOURCES_CHANGED,
    TOOLS_CHANGED,
    Changes,
    Params,
    Request,
    Session,
)
from trillm.mcp.upstream import CLIENT, Client, EraRefused, Signer, Upstream, no_signer, open_session
from trillm.mcp.watch import ACKNOWLEDGED, Watch
from trillm.registry.mcpentries import McpServer

log = logging.getLogger(__name__)

REQUEST_TIMEOUT = -32001
#: Sessions of single clients with one upstream; over stdio each is a process.
MOST_PRIVATE = 256
#: What may be answered with a question.
_ASKING = {"tools/call", "prompts/get", "resources/read"}
#: What is of a session's state, so that a client of the old era needs a session of its own for it.
_STATEFUL = _ASKING
_LISTS = {
    TOOLS_CHANGED: ("tools/list",),
    PROMPTS_CHANGED: ("prompts/list",),
    RESOURCES_CHANGED: ("resources/list", "resources/templates/list"),
}
_FEATURE = {"tools": "tools", "prompts": "prompts", "resources": "resources", "completion": "completions"}


@define(eq=False)
class Links:
    """See the module.

    Args:
        server: its entry.
        nursery: in which its sessions live.
        groups: guards its processes.
        changes: is told what it says has changed.
        sampler: answers when it asks for sampling and its entry names a model.
        signer: returns what signs HTTP requests to it, after a login.
        lists: what it lists, as it was last seen.
    """

    server: McpServer
    nursery: trio.Nursery
    groups: Groups
    changes: Changes
    sampler: Sampler | None = None
    signer: Signer = no_signer
    lists: Lists = field(init=False)
    shared: Link = field(init=False)
    watch: Watch = field(init=False)
    _parking: Parking = field(init=False)
    _private: dict[str, tuple[Link, Relay]] = field(factory=dict, init=False)
    _subscriptions: set[tuple[str, str]] = field(factory=set, init=False)
    _errands: list[Errand] = field(factory=list, init=False)
    _refuses_legacy: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.lists = Lists(self.server.name)
        self.watch = Watch(self.nursery)
        client = Client(capabilities(self.server, {}), answer=self._answer, hear=self._hear)
        self.shared = self._link(client, self.server.era, self._opened, kept=lambda: self.watch.wanted)
        self._parking = Parking(self.server, self.nursery, self.sampler, partial(self._link, era="legacy"))
        self._refuses_legacy = self.server.era == "modern"

    def end(self) -> None:
        """End every session; there will be no other."""
        self.shared.end()
        self._parking.end()
        for link, _ in self._private.values():
            link.end()

    @property
    def sessions(self) -> int:
        """How many sessions of clients of the old era there are, beside the shared one."""
        return len(self._private)

    @property
    def failure(self) -> str | None:
        """Why there is no session, if starting one failed."""
        return self.shared.failure

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────────

    async def put(self, request: Request, params: Params) -> Params:
        """Put a client's request to the upstream and return the result as it came.

        Args:
            request: the client's.
            params: its parameters, with the upstream's own names in them.

        Raises:
            RpcError: the upstream's own error; or why it cannot be asked, or has not answered within ``call_s``.
        """
        with trio.move_on_after(self.server.call_s):
            put = self._put_modern if request.session.is_modern else self._put_legacy
            result = await put(request, params)
            if request.method == "tools/call":
                self.lists.mention(result)
            return result
        raise RpcError(REQUEST_TIMEOUT, f"MCP server {self.server.name!r} did not answer in {self.server.call_s:g} s.")

    async def _put_modern(self, request: Request, params: Params) -> Params:
        shared = await self.shared.session()
        if shared.is_modern or request.method not in _ASKING or not self._parking.wants(request):
            return await self._share(request, params)
        with errand(request, self.nursery) as mine:
            return await self._parking.put(mine, request.method, params)

    async def _put_legacy(self, request: Request, params: Params) -> Params:
        if request.method in _STATEFUL or request.session.id in self._private:
            private = await self.private(request.session)
            if private is not None:
                return await self._put_private(*private, request, params)
        if not (await self.shared.session()).is_modern:
            return await self._share(request, params)
        return await rounds.put(partial(self._share, request), request, params)

    async def _put_private(self, link: Link, relay: Relay, request: Request, params: Params) -> Params:
        with errand(request, self.nursery) as mine:
            relay.active.append(mine)
            try:
                result = await link.request(request.method, params, on_progress=mine.on_progress)
                await mine.outbox.flush()
                return result
            finally:
                relay.active.remove(mine)

    async def _share(self, request: Request, params: Params) -> Params:
        with errand(request, self.nursery) as mine, self._logging(mine):
            result = await self._answered(mine, request.method, params)
            await mine.outbox.flush()
            return result

    async def _answered(self, mine: Errand, method: str, params: Params) -> Params:
        """Put a request on the shared session; what it asks of a model is answered here, if the entry says so."""
        for _ in range(rounds.MOST_ROUNDS):
            result = await self.shared.request(method, params, on_progress=mine.on_progress)
            again = await rounds.sampled(self.server, self.sampler, params, result)
            if again is None:
                return result
            params = again
        raise rounds.endless()

    @contextmanager
    def _logging(self, mine: Errand) -> Iterator[None]:
        """Let a call have the log messages, which do not say whose they are, while it is the only one to want any."""
        if mine.request.session.is_modern and f"{META}logLevel" not in mine.request.meta:
            yield
            return
        self._errands.append(mine)
        try:
            yield
        finally:
            self._errands.remove(mine)

    # ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────

    async def private(self, session: Session) -> tuple[Link, Relay] | None:
        """Return the session that is a client's of the old era alone; None where it is to share.

        Raises:
            RpcError: it cannot be started.
        """
        if self._refuses_legacy or self.server.sessions == "shared":
            return None
        known = self._private.get(session.id)
        if known is None:
            if len(self._private) >= MOST_PRIVATE:
                problem = (
                    f"MCP server {self.server.name!r} has {MOST_PRIVATE} clients with sessions of their own already."
                )
                raise RpcError(TOO_MANY_REQUESTS, problem)
            known = self._private[session.id] = self._open_private(session)
            session.on_end(lambda: self._close_private(session.id))
        try:
            await known[0].session()
        except RpcError:
            if not isinstance(known[0].cause, EraRefused):
                raise
            self._refuses_legacy = True
            self._close_private(session.id)
            return None
        return known

    def _open_private(self, session: Session) -> tuple[Link, Relay]:
        relay = Relay(self.server, session, self.nursery, self.sampler, self._stale)
        info = dict(session.client) or CLIENT
        client = Client(relay.capabilities, info, relay.answer, relay.hear)

        def opened(upstream: Upstream) -> None:
            if session.log_level is not None:
                self.nursery.start_soon(self._set_level, upstream, session.log_level)
            for uri in relay.subscribed:
                self.nursery.start_soon(self._tell, upstream, "resources/subscribe", {"uri": uri})

        # A process costs memory while it waits, a remote session nothing.
        return self._link(client, "legacy", opened, kept=lambda: self.server.url or relay.subscribed), relay

    def _close_private(self, session_id: str) -> None:
        known = self._private.pop(session_id, None)
        if known is not None:
            known[0].end()

    async def set_level(self, session: Session) -> None:
        """Tell the session that is this client's alone what the client wants to be told; later ones are told too."""
        known = self._private.get(session.id)
        if known is not None and known[0].current is not None and session.log_level is not None:
            await self._set_level(known[0].current, session.log_level)

    async def _set_level(self, upstream: Upstream, level: str) -> None:
        if "logging" in upstream.capabilities:
            await self._tell(upstream, "logging/setLevel", {"level": level})

    async def _tell(self, upstream: Upstream, method: str, params: Params) -> None:
        try:
            await upstream.request(method, params)
        except RpcError as error:
            log.info("mcp request refused server=%s method=%s reason=%r", self.server.name, method, str(error))

    async def notified(self, session: Session, method: str, params: Params) -> None:
        """Pass on a notification of a client to the session that is its alone."""
        known = self._private.get(session.id)
        if known is not None and known[0].current is not None and method == "notifications/roots/list_changed":
            await known[0].current.peer.notify(method, params)

    async def describe(self, session: Session) -> Params:
        """Return the upstream's capabilities, ``serverInfo`` and ``instructions``, for a client of its own."""
        upstream = None if session.is_modern else await self.private(session)
        current = await (upstream[0].session() if upstream else self.shared.session())
        return dict(current.described)

    def _link(
        self,
        client: Client,
        era: str,
        opened: Callable[[Upstream], None] = lambda _session: None,
        kept: Callable[[], object] = lambda: False,
    ) -> Link:
        opening = partial(
            open_session, self.server, client, self.groups, era=era, schemas=self.lists.schemas.get, signer=self.signer
        )
        return Link(self.server, opening, self.nursery, opened, kept)

    # ── what the shared session says ────────────────────────────────────────────────────────────────────────────

    def _opened(self, upstream: Upstream) -> None:
        self.watch.opened(upstream)
        if self.lists.wanted:
            self.nursery.start_soon(self._refresh, upstream)

    async def _answer(self, _id: Id, method: str, params: Params) -> Params:
        own = await answered_here(self.server, self.sampler, method, params)
        if own is None:
            raise method_not_found(method)  # nobody can tell for whom it is
        return own

    def _hear(self, method: str, params: Params) -> None:
        if method in _LISTS:
            self._stale(method)
            self.changes.publish(method)
        elif method == RESOURCE_UPDATED:
            self.changes.publish(method, {name: value for name, value in params.items() if name != "_meta"})
        elif method == ACKNOWLEDGED:
            self.watch.acknowledged()
        elif method == MESSAGE and len(self._errands) == 1:
            self._errands[0].tell(method, params)

    def _stale(self, method: str) -> None:
        self.lists.stale(_LISTS.get(method, ()))

    # ── lists ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def whole(self, request: Request) -> Listing:
        """Return a whole list: asked for while a session is open, else as it was, unless that is long ago.

        Raises:
            RpcError: it cannot be had within ``list_s``.
        """
        if self.shared.current is None and request.session.id not in self._private:
            known = self.lists.fresh(request.method)
            if known is not None:
                return known
        with trio.move_on_after(self.server.list_s):
            return await self.lists.fetch(request.method, partial(self._page, request), request.params)
        self.lists.missed.add(request.method)
        raise RpcError(REQUEST_TIMEOUT, f"MCP server {self.server.name!r} did not answer in {self.server.list_s:g} s.")

    async def _page(self, request: Request, params: Params) -> Params:
        feature = _FEATURE[request.method.partition("/")[0]]
        offered = (await self.shared.session()).capabilities
        if offered and feature not in offered:
            return {}
        try:
            return await self.put(request, params)
        except RpcError as error:
            if error.code == METHOD_NOT_FOUND:
                return {}
            raise

    async def _refresh(self, upstream: Upstream) -> None:
        """Ask a new session for the lists that are known or were missed, and tell who listens what is different."""
        for method in await self.lists.refresh(upstream):
            self.changes.publish(next(notice for notice, lists in _LISTS.items() if method in lists))

    # ── subscriptions ───────────────────────────────────────────────────────────────────────────────────────────

    async def subscribe(self, session: Session, uri: str, asked: str) -> None:
        """Have a client of the old era told of changes of a resource, until it ends or unsubscribes.

        Args:
            session: the client's.
            uri: the upstream's.
            asked: by which the client knows it.
        """
        private = await self.private(session)
        if private is not None:
            link, relay = private
            await link.request("resources/subscribe", {"uri": uri})
            relay.subscribed[uri] = asked
        elif (session.id, uri) not in self._subscriptions:
            await self.watch.add(self.shared, uri)
            self._subscriptions.add((session.id, uri))
            session.on_end(lambda: self._unwatch(session, uri))

    async def unsubscribe(self, session: Session, uri: str) -> None:
        """Undo :meth:`subscribe`, if there was one."""
        self._unwatch(session, uri)
        private = self._private.get(session.id)
        if private is not None and private[1].subscribed.pop(uri, None) is not None:
            await private[0].request("resources/unsubscribe", {"uri": uri})

    def _unwatch(self, session: Session, uri: str) -> None:
        if (session.id, uri) in self._subscriptions:
            self._subscriptions.discard((session.id, uri))
            self.watch.remove(self.shared, uri)

    @asynccontextmanager
    async def watching(self, uris: tuple[str, ...]) -> AsyncIterator[None]:
        """Have changes of resources told for the time of the block."""
        async with self.watch.watching(self.shared, uris):
            yield
