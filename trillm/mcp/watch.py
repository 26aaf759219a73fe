"""Which resources of an upstream somebody wants to be told of, and that the upstream knows it.

Owns the counts. In the new era one ``subscriptions/listen`` stream carries everything and is asked for anew when the
set changes; in the old era each resource is subscribed to. A session that is replaced is told again.
"""

import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio
from attrs import define, field

from trillm.mcp.errors import RpcError
from trillm.mcp.link import Link
from trillm.mcp.session import Params
from trillm.mcp.upstream import Upstream

log = logging.getLogger(__name__)

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
#: How long the old stream stays while a new one has not been acknowledged, so that nothing falls between them.
OVERLAP_S = 2.0
_ids = itertools.count(1)


@define(eq=False)
class Watch:
    """See the module.

    Args:
        nursery: for the streams.
    """

    nursery: trio.Nursery
    wanted: Counter[str] = field(factory=Counter, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False)
    _acknowledged: trio.Event = field(factory=trio.Event, init=False)

    @asynccontextmanager
    async def watching(self, link: Link, uris: Iterable[str]) -> AsyncIterator[None]:
        """Be told of changes of ``uris`` for the time of the block."""
        uris = tuple(uris)
        for uri in uris:
            await self.add(link, uri)
        try:
            yield
        finally:
            for uri in uris:
                self.remove(link, uri)

    async def add(self, link: Link, uri: str) -> None:
        """Be told of changes of ``uri``.

        Raises:
            RpcError: the upstream refuses, or cannot be reached.
        """
        session = await link.session()
        if not self.wanted[uri] and not session.is_modern:
            await session.request("resources/subscribe", {"uri": uri})
        self.wanted[uri] += 1
        self._changed.set()

    def remove(self, link: Link, uri: str) -> None:
        """Undo one :meth:`add`."""
        self.wanted[uri] -= 1
        if self.wanted[uri] > 0:
            return
        del self.wanted[uri]
        self._changed.set()
        if link.current is not None and not link.current.is_modern:
            self.nursery.start_soon(self._tell, link.current, "resources/unsubscribe", uri)

    def opened(self, session: Upstream) -> None:
        """Tell a new session what is wanted."""
        if session.is_modern:
            self.nursery.start_soon(self._listen, session)
        else:
            for uri in self.wanted:
                self.nursery.start_soon(self._tell, session, "resources/subscribe", uri)

    def acknowledged(self) -> None:
        """Take in that the newest stream has begun."""
        self._acknowledged.set()

    async def _tell(self, session: Upstream, method: str, uri: str) -> None:
        try:
            await session.request(method, {"uri": uri})
        except RpcError as error:
            log.info("mcp subscription refused server=%s method=%s reason=%r", session.server.name, method, str(error))

    async def _listen(self, session: Upstream) -> None:
        """Keep a stream open until the session ends."""
        async with trio.open_nursery() as streams:
            old: trio.CancelScope | None = None
            while not session.closed.is_set():
                self._changed, self._acknowledged = trio.Event(), trio.Event()
                new = trio.CancelScope()
                streams.start_soon(self._stream, session, new)
                with trio.move_on_after(OVERLAP_S):
                    await self._acknowledged.wait()
                if old is not None:
                    old.cancel()
                old = new
                await _first(self._changed, session.closed)
            streams.cancel_scope.cancel()

    async def _stream(self, session: Upstream, scope: trio.CancelScope) -> None:
        wanted: Params = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
        if self.wanted:
            wanted["resourceSubscriptions"] = list(self.wanted)
        with scope:
            try:
                await session.request("subscriptions/listen", {"notifications": wanted}, id=f"listen-{next(_ids)}")
            except RpcError as error:
                log.debug("mcp upstream has no change stream server=%s reason=%r", session.server.name, str(error))


async def _first(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
