"""The MCP face as a whole: every transport, and what is served through them. Importing it costs a second."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import frozen

from trillm.gateway.access import Access
from trillm.hub import Hub
from trillm.mcp.endpoint import Endpoint
from trillm.mcp.house import House
from trillm.mcp.http import HttpFace
from trillm.mcp.own import Own
from trillm.mcp.sdk import open_http_sessions
from trillm.mcp.session import View
from trillm.mcp.websocket import DEFAULTS, WebSocketFace


@frozen(eq=False)
class Face:
    """What clients reach.

    Args:
        own: what trillm itself offers.
        websocket: its WebSockets.
        http: its HTTP.
    """

    own: Own
    websocket: WebSocketFace
    http: HttpFace

    async def finish(self) -> None:
        """Take no more requests, let those that run be answered, and end every session."""
        self.own.changes.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.websocket.finish)
            nursery.start_soon(self.http.sessions.end_all)

    def abort(self) -> None:
        """Close every connection at once."""
        self.websocket.abort()


@asynccontextmanager
async def open_face(house: House, hub: Hub, access: Access) -> AsyncIterator[Face]:
    """Run the face for the time of the block."""
    own = Own(house, hub)
    own.watch()

    def views(server: str) -> View | None:
        return None if server else own

    endpoint = Endpoint(access, views)
    async with open_http_sessions(DEFAULTS.message_bytes) as sessions:
        yield Face(own, WebSocketFace(endpoint), HttpFace(endpoint, sessions))
