"""The SDK's own client over each transport, for a trillm that runs in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import trio
import trio_websocket as tw
from mcp import Client
from mcp.shared.message import SessionMessage
from mcp_types.jsonrpc import jsonrpc_message_adapter

from support.sockets import open_socket

OLD, NEW = "legacy", "2026-07-28"
META = "io.modelcontextprotocol/"
#: The SDK's HTTP client, and httpx in tests that leave a stream early, leave asynchronous generators to the collector.
LEFT_BEHIND = (
    "ignore:Async generator 'http:ResourceWarning",
    "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning",
)


class SocketStreams:
    """Both streams that the SDK wants of a transport, on a WebSocket."""

    def __init__(self, socket: tw.WebSocketConnection) -> None:
        self.socket = socket

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(await self.socket.get_message(), by_name=False))
        except tw.ConnectionClosed:
            raise StopAsyncIteration from None

    receive = __anext__

    async def send(self, item: SessionMessage) -> None:
        try:
            await self.socket.send_message(item.message.model_dump_json(by_alias=True, exclude_unset=True))
        except tw.ConnectionClosed:
            raise anyio.BrokenResourceError from None

    async def aclose(self) -> None:
        pass

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass


@asynccontextmanager
async def over_websocket(url: str, **options: Any) -> AsyncIterator[tuple[SocketStreams, SocketStreams]]:
    async with open_socket(url, **options) as socket:
        streams = SocketStreams(socket)
        yield streams, streams


def client(trillm, transport: str, mode: str, path: str = "/mcp", **options: Any) -> Client:
    """The SDK's client for ``trillm`` over ``ws`` or ``http``."""
    if transport == "ws":
        return Client(over_websocket(trillm.url.replace("http", "ws", 1) + path), mode=mode, **options)
    return Client(trillm.url + path, mode=mode, **options)


class Raw:
    """A client that writes what it is told, whatever the protocol says of it."""

    def __init__(self, socket: tw.WebSocketConnection) -> None:
        self.socket = socket
        self._id = 0

    async def send(self, message: Any) -> None:
        import json

        await self.socket.send_message(message if isinstance(message, str | bytes) else json.dumps(message))

    async def receive(self, within_s: float = 5) -> dict[str, Any]:
        import json

        with trio.fail_after(within_s):
            return json.loads(await self.socket.get_message())

    async def ask(self, method: str, params: dict[str, Any] | None = None, *, new: bool = False) -> dict[str, Any]:
        """Ask, drop notifications, return the answer."""
        self._id += 1
        params = {**envelope(), **(params or {})} if new else params or {}
        await self.send({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        while True:
            message = await self.receive()
            if message.get("id") == self._id and "method" not in message:
                return message

    async def initialize(self, version: str = "2025-11-25", **capabilities: Any) -> dict[str, Any]:
        answer = await self.ask("initialize", hello(version, **capabilities))
        await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer["result"]


def hello(version: str = "2025-11-25", **capabilities: Any) -> dict[str, Any]:
    client_info = {"name": "test", "version": "1"}
    return {"protocolVersion": version, "capabilities": capabilities, "clientInfo": client_info}


def envelope(**more: Any) -> dict[str, Any]:
    """What each request of the new era brings."""
    return {"_meta": {f"{META}protocolVersion": NEW, f"{META}clientCapabilities": {}, **more}}


@asynccontextmanager
async def raw(trillm, path: str = "/mcp", **options: Any) -> AsyncIterator[Raw]:
    """A WebSocket to write to."""
    async with open_socket(trillm.url.replace("http", "ws", 1) + path, **options) as socket:
        yield Raw(socket)
