"""The SDK's everything-server over any transport: ``python everything.py FOLDER stdio|http|ws [PORT]``.

FOLDER is the example of that name from the SDK's source distribution. Runs in an environment of its own.
"""

import sys
from functools import partial

import anyio
import mcp_types as t
import trio
import trio_websocket
from mcp.server.runner import serve_dual_era_loop
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

sys.path.insert(0, sys.argv[1])
from mcp_everything_server import server as everything

SERVER = everything.mcp._lowlevel_server


class Stream:
    """A WebSocket as the SDK's two streams."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self.socket = socket

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return SessionMessage(
                t.jsonrpc_message_adapter.validate_json(await self.socket.get_message(), by_name=False)
            )
        except trio_websocket.ConnectionClosed:
            raise StopAsyncIteration from None

    async def send(self, item):
        with trio.CancelScope(shield=True):
            try:
                await self.socket.send_message(item.message.model_dump_json(by_alias=True, exclude_unset=True))
            except trio_websocket.ConnectionClosed:
                raise anyio.BrokenResourceError from None

    async def aclose(self):
        pass

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_exc):
        pass


async def stdio() -> None:
    async with SERVER.lifespan(SERVER) as state, stdio_server() as (read, write):
        await serve_dual_era_loop(SERVER, read, write, lifespan_state=state)


async def websocket(port: int) -> None:
    async with SERVER.lifespan(SERVER) as state:

        async def handler(request):
            stream = Stream(await request.accept(subprotocol="mcp"))
            await serve_dual_era_loop(SERVER, stream, stream, lifespan_state=state)

        async with trio.open_nursery() as nursery:
            start = partial(trio_websocket.serve_websocket, handler, "127.0.0.1", port, None)
            listening = await nursery.start(start)
            print(f"ws://127.0.0.1:{listening.port}/mcp", flush=True)


match sys.argv[2]:
    case "stdio":
        trio.run(stdio)
    case "ws":
        trio.run(websocket, int(sys.argv[3]))
    case "http":  # as its own command line would, on asyncio
        everything.mcp.run(
            transport="streamable-http", port=int(sys.argv[3]), event_store=everything.event_store, retry_interval=100
        )
