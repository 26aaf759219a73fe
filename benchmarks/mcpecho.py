"""The least a WebSocket in Python can cost: trio-websocket, sending back what comes. Run with a port."""

import sys

import trio
import trio_websocket as tw


async def echo(request: tw.WebSocketRequest) -> None:
    """Send back whatever comes."""
    socket = await request.accept(subprotocol="mcp")
    while True:
        try:
            await socket.send_message(await socket.get_message())
        except tw.ConnectionClosed:
            return


if __name__ == "__main__":
    trio.run(tw.serve_websocket, echo, "127.0.0.1", int(sys.argv[1]), None)
