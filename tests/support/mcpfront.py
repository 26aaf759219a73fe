"""MCP upstreams as processes, the views over them behind a WebSocket, and the SDK's own client before it."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mcp_types as t
import trio
from attrs import define, field
from mcp import Client

from support.mcp_upstream import Stream
from support.sockets import open_socket
from trillm.gateway.access import Access
from trillm.keys import Keyring
from trillm.mcp.aggregate import Aggregate, open_aggregate
from trillm.mcp.endpoint import Endpoint
from trillm.mcp.errors import method_not_found
from trillm.mcp.session import Changes, Params, Request, Session
from trillm.mcp.single import Single
from trillm.mcp.upstreams import Upstreams, open_upstreams
from trillm.mcp.websocketface import WebSocketFace
from trillm.registry.mcpentries import McpServer

PROGRAM = str(Path(__file__).with_name("mcp_upstream.py"))
MODES = ("legacy", "2026-07-28")


def stdio(name: str, *options: str, **fields: Any) -> McpServer:
    """An upstream that trillm starts."""
    command = (PROGRAM, "stdio", "--name", name, *options)
    return McpServer(name, command=sys.executable, args=("-W", "ignore", *command), **fields)


@contextmanager
def program(transport: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An upstream that runs by itself, and its URL."""
    command = [sys.executable, "-W", "ignore", PROGRAM, transport, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@define
class Nothing:
    """What trillm itself would offer, if it offered next to nothing."""

    changes: Changes = field(factory=Changes)

    async def describe(self, _session: Session) -> Params:
        return {"capabilities": {}, "serverInfo": {"name": "trillm", "version": "1"}}

    async def handle(self, request: Request) -> Params:
        match request.method:
            case "tools/list":
                return {"tools": [{"name": "own", "inputSchema": {"type": "object"}}]}
            case "prompts/list" | "resources/list" | "resources/templates/list":
                return {}
            case "tools/call" if request.params["name"] == "own":
                return {"content": [{"type": "text", "text": "mine"}]}
            case "logging/setLevel":
                return {}
        raise method_not_found(request.method)

    async def notified(self, session: Session, method: str, params: Params) -> None:
        pass

    def input_schema(self, _session: Session, _tool: str) -> Params | None:
        return None


@define
class Front:
    """A gateway that answers.

    Args:
        url: of ``/mcp``.
    """

    url: str
    upstreams: Upstreams
    aggregate: Aggregate

    def client(self, mode: str, path: str = "", token: str | None = None, **callbacks: Any) -> Client:
        return Client(websocket(self.url + path, token), mode=mode, **callbacks)


@asynccontextmanager
async def fronted(*servers: McpServer, keyring: Keyring | None = None, sampler: Any = None) -> AsyncIterator[Front]:
    """A gateway before these servers."""
    async with open_upstreams(sampler) as upstreams, trio.open_nursery() as nursery:
        upstreams.follow({server.name: server for server in servers})
        with open_aggregate(upstreams, Nothing()) as aggregate:

            def views(name: str) -> Any:
                if not name:
                    return aggregate
                return Single(upstreams, name) if name in upstreams.links else None

            access = Access(keyring=lambda: keyring or Keyring(), operator_token="the-operator")
            face = WebSocketFace(Endpoint(access, views))
            (listener,) = await nursery.start(partial(trio.serve_tcp, face.serve, 0, host="127.0.0.1"))
            port = listener.socket.getsockname()[1]
            yield Front(f"ws://127.0.0.1:{port}/mcp", upstreams, aggregate)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def websocket(url: str, token: str | None = None) -> AsyncIterator[tuple[Stream, Stream]]:
    """A transport for the SDK's client."""
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    async with open_socket(url, extra_headers=headers) as socket:
        stream = Stream(socket)
        yield stream, stream


def text(result: Any) -> str:
    return result.content[0].text


async def elicit(_ctx: Any, _params: Any) -> t.ElicitResult:
    return t.ElicitResult(action="accept", content={"name": "trio"})


async def sample(_ctx: Any, _params: Any) -> t.CreateMessageResult:
    return t.CreateMessageResult(role="assistant", model="client", content=t.TextContent(type="text", text="hi"))


async def roots(_ctx: Any) -> t.ListRootsResult:
    return t.ListRootsResult(roots=[t.Root(uri="file:///work")])


async def until(condition: Any, within_s: float = 10) -> None:
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.01)
