"""Progress over two hops, as it is on the wire: in order, before the result, and none after. Ten thousand calls."""

import json
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio_websocket as tw
from attrs import define, field
from support.mcpclient import Raw, envelope
from support.mcpfront import fronted
from support.servers import ok, read_request
from support.sockets import open_socket

from trillm.registry.mcpentries import McpServer

CALLS, AT_ONCE, STEPS = 2_500, 32, 4
TOOL = {"name": "steps", "inputSchema": {"type": "object"}}


def result_of(message, era):
    """What an upstream with one tool answers to what is no call of it."""
    info = {"name": "steps", "version": "1"}
    match message["method"]:
        case "server/discover" if era == "modern":
            about = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "serverInfo": info}
            return about | {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        case "initialize" if era == "legacy":
            return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [TOOL], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return None


def answers_to(message, era):
    """What an upstream says to a request, message by message."""
    if message["method"] == "tools/call":
        token = message["params"]["_meta"]["progressToken"]
        for step in range(1, STEPS + 1):
            params = {"progressToken": token, "progress": step, "total": STEPS}
            yield {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        yield {"jsonrpc": "2.0", "id": message["id"], "result": {"content": [], "resultType": "complete"}}
    elif (result := result_of(message, era)) is not None:
        yield {"jsonrpc": "2.0", "id": message["id"], "result": result}
    else:
        yield {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}}


async def answer(socket, message, era):
    for told in answers_to(message, era):
        await socket.send_message(json.dumps(told))


async def serve_websocket(era, request):
    """Answers calls at the same time, so that their notices come mixed."""
    socket = await request.accept(subprotocol="mcp")
    async with trio.open_nursery() as nursery:
        with suppress(tw.ConnectionClosed):
            while True:
                message = json.loads(await socket.get_message())
                if "id" in message:
                    nursery.start_soon(answer, socket, message, era)
        nursery.cancel_scope.cancel()


async def serve_http(era, stream):
    """Answers a call with everything at once, so that it is read in one go."""
    with suppress(trio.BrokenResourceError):
        while request := await read_request(stream):
            message = json.loads(request.partition(b"\r\n\r\n")[2])
            if "id" in message:
                events = "".join(f"data: {json.dumps(told)}\n\n" for told in answers_to(message, era))
                await stream.send_all(ok(events.encode(), b"content-type: text/event-stream\r\n"))
            else:
                await stream.send_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")


@asynccontextmanager
async def upstream(kind, era):
    """A server with one tool; yields its URL."""
    async with trio.open_nursery() as nursery:
        if kind == "ws":
            serve = partial(tw.serve_websocket, partial(serve_websocket, era), "127.0.0.1", 0, None)
            port = (await nursery.start(serve)).port
        else:
            serve = partial(trio.serve_tcp, partial(serve_http, era), 0, host="127.0.0.1")
            port = (await nursery.start(serve))[0].socket.getsockname()[1]
        yield f"{kind}://127.0.0.1:{port}/mcp"
        nursery.cancel_scope.cancel()


@define(eq=False)
class Calls:
    """What came of the calls, and what of that was wrong."""

    steps: dict[int, int] = field(factory=dict)
    done: dict[int, trio.Event] = field(factory=dict)
    wrong: list[object] = field(factory=list)
    in_order: int = 0

    def take(self, message):
        if message.get("method") == "notifications/progress":
            token, step = message["params"]["progressToken"], message["params"]["progress"]
            if token not in self.done or step != self.steps[token] + 1:
                self.wrong.append(message)
            self.steps[token] = step
        elif message.get("result") is not None and self.steps[message["id"]] == STEPS:
            self.in_order += 1
            self.done.pop(message["id"]).set()
        else:
            self.wrong.append(message)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ws", "http"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_progress_is_in_order_and_before_the_result_in_all_of_ten_thousand_calls(era, kind):
    calls, numbers = Calls(), iter(range(100, 100 + CALLS))

    async def keep_calling(mcp):
        for number in numbers:
            calls.steps[number], done = 0, trio.Event()
            calls.done[number] = done
            meta = (envelope() if era == "modern" else {"_meta": {}})["_meta"] | {"progressToken": number}
            params = {"name": "steps__steps", "arguments": {}, "_meta": meta}
            await mcp.send({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
            await done.wait()

    async def read(mcp):
        while True:
            calls.take(await mcp.receive())

    async with (
        upstream(kind, era) as url,
        fronted(McpServer("steps", url=url, era=era)) as front,
        open_socket(front.url) as socket,
        trio.open_nursery() as reading,
    ):
        mcp = Raw(socket)
        if era == "legacy":
            await mcp.initialize()
        with trio.fail_after(120):
            reading.start_soon(read, mcp)
            async with trio.open_nursery() as calling:
                for _ in range(AT_ONCE):
                    calling.start_soon(keep_calling, mcp)
        await trio.sleep(0.1)  # for what would come after the last result
        reading.cancel_scope.cancel()
    assert calls.wrong == []
    assert calls.in_order == CALLS
