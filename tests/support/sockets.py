"""A WebSocket of a client's whose connection is closed however it ends; trio-websocket leaves that to the collector."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import trio
import trio_websocket as tw

GOODBYE_S, OPENING_S = 2, 5


@asynccontextmanager
async def open_socket(url: str, **options: Any) -> AsyncIterator[tw.WebSocketConnection]:
    """A WebSocket to ``url``, offering ``mcp`` unless ``subprotocols`` says otherwise.

    What the block raises comes out as it is, not in a group; so does ``ConnectionRejected``.
    """
    parts = urlsplit(url)
    options = {"subprotocols": ["mcp"], **options}
    raised: BaseException | None = None
    async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream:
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(OPENING_S):
                    socket = await tw.wrap_client_stream(nursery, stream, parts.netloc, parts.path, **options)
                try:
                    yield socket
                finally:
                    with trio.move_on_after(GOODBYE_S, shield=True):
                        await socket.aclose()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raised = group.exceptions[0]
        if raised is not None:
            raise raised
