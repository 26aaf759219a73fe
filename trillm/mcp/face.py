"""The MCP face as a whole: every transport, and what is served through them. Importing it costs a second."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from attrs import frozen

from trillm.gateway.access import Access
from trillm.hub import Hub, WhenFull
from trillm.mcp.aggregate import open_aggregate
from trillm.mcp.endpoint import Endpoint
from trillm.mcp.house import House
from trillm.mcp.http import HttpFace
from trillm.mcp.logins import Logins
from trillm.mcp.own import Own
from trillm.mcp.sampling import build_sampler
from trillm.mcp.search import Search
from trillm.mcp.session import View
from trillm.mcp.signing import signer_of
from trillm.mcp.single import Single
from trillm.mcp.upstreams import Upstreams, open_upstreams
from trillm.mcp.websocketface import WebSocketFace
from trillm.registry.registry import RegistryLoaded


@frozen(eq=False)
class Face:
    """What clients reach.

    Args:
        own: what trillm itself offers.
        upstreams: what others offer through it.
        endpoint: what is served where.
        websocket: its WebSockets.
        http: its HTTP.
    """

    own: Own
    upstreams: Upstreams
    endpoint: Endpoint
    websocket: WebSocketFace
    http: HttpFace

    async def finish(self) -> None:
        """Take no more requests, let those that run be answered, and end every session."""
        self.own.changes.close()
        self.upstreams.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.websocket.finish)
            nursery.start_soon(self.http.finish)

    def abort(self) -> None:
        """Close every connection at once."""
        self.websocket.abort()


@asynccontextmanager
async def open_face(house: House, hub: Hub, access: Access) -> AsyncIterator[Face]:
    """Run the face for the time of the block."""
    own = Own(house, hub)
    own.watch()
    signer = partial(signer_of, logins=Logins.beside(house.registry.store.path))
    async with open_upstreams(build_sampler(house.gateway), signer) as upstreams, trio.open_nursery() as nursery:
        with open_aggregate(upstreams, own, Search(house.search, house.gateway)) as aggregate:
            endpoint = Endpoint(access, partial(_view, upstreams, aggregate))
            _follow(house, hub, upstreams, endpoint)
            http = HttpFace(endpoint, nursery, house.worker)
            face = Face(own, upstreams, endpoint, WebSocketFace(endpoint), http)
            nursery.start_soon(face.http.serve_times)
            metrics = house.gateway.metrics
            metrics.gauge("trillm_mcp_websockets", "Open MCP WebSockets.", lambda: face.websocket.connections)
            metrics.gauge("trillm_mcp_sessions", "MCP sessions over HTTP.", lambda: len(face.http.sessions))
            yield face
            nursery.cancel_scope.cancel()


def _view(upstreams: Upstreams, aggregate: View, server: str) -> View | None:
    if not server:
        return aggregate
    return Single(upstreams, server) if server in upstreams.links else None


def _follow(house: House, hub: Hub, upstreams: Upstreams, endpoint: Endpoint) -> None:
    """Have the upstreams that the registry names, and serve whom its keys let in, now and when they change."""

    def loaded(event: RegistryLoaded) -> None:
        endpoint.renew()
        upstreams.follow(event.snapshot.document.mcp_servers)

    upstreams.follow(house.registry.snapshot.document.mcp_servers)
    # Coalesced: only the newest snapshot is of interest.
    hub.subscribe(loaded, RegistryLoaded, when_full=WhenFull.COALESCE, size=1)
