"""What MCP clients see when trillm stops."""

import json

import pytest
import trio
import trio_websocket as tw
from support.mcpclient import META, envelope, hello, raw
from support.running import Sim, running

from trillm.app import drain
from trillm.sim.settings import SimSettings

ASK = {"name": "chat", "arguments": {"model": "sim-chat", "prompt": "x"}}


async def code_of(mcp):
    with pytest.raises(tw.ConnectionClosed) as caught:
        await mcp.receive()
    return caught.value.reason.code


async def test_an_idle_connection_is_closed_as_going_away(tmp_path):
    async with running(tmp_path, {"one": Sim()}) as trillm, raw(trillm) as mcp, trio.open_nursery() as nursery:
        await mcp.initialize()
        nursery.start_soon(drain, trillm.server, 5.0)
        assert await code_of(mcp) == 1001


async def test_a_listener_is_told_that_this_is_the_end(tmp_path):
    async with running(tmp_path, {"one": Sim()}) as trillm, raw(trillm) as mcp, trio.open_nursery() as nursery:
        params = {"notifications": {"toolsListChanged": True}, **envelope()}
        await mcp.send({"jsonrpc": "2.0", "id": "l", "method": "subscriptions/listen", "params": params})
        assert (await mcp.receive())["method"] == "notifications/subscriptions/acknowledged"
        nursery.start_soon(drain, trillm.server, 5.0)
        ended = await mcp.receive()
        assert ended["id"] == "l"
        assert ended["result"]["_meta"][f"{META}subscriptionId"] == "l"
        assert await code_of(mcp) == 1001


async def test_what_runs_is_answered_and_what_comes_is_refused(tmp_path):
    slow = Sim(SimSettings(ttft_s=0.5))
    async with running(tmp_path, {"one": slow}) as trillm, raw(trillm) as mcp, trio.open_nursery() as nursery:
        await mcp.initialize()
        await mcp.send({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": ASK})
        while not trillm.gateway.running:
            await trio.sleep(0.01)
        nursery.start_soon(drain, trillm.server, 5.0)
        await trio.sleep(0.1)
        await mcp.send({"jsonrpc": "2.0", "id": "b", "method": "tools/list"})
        refused, answered = await mcp.receive(), await mcp.receive()
        assert (refused["id"], refused["error"]["code"]) == ("b", -32000)
        assert (answered["id"], answered["result"]["isError"]) == ("a", False)
        assert await code_of(mcp) == 1001


async def test_what_takes_too_long_is_told_so(tmp_path):
    slow = Sim(SimSettings(ttft_s=60.0))
    async with running(tmp_path, {"one": slow}) as trillm, raw(trillm) as mcp, trio.open_nursery() as nursery:
        await mcp.initialize()
        await mcp.send({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": ASK})
        while not trillm.gateway.running:
            await trio.sleep(0.01)
        nursery.start_soon(drain, trillm.server, 1.2)
        messages = [await mcp.receive()]
        while "id" not in messages[-1]:
            messages.append(await mcp.receive())
        assert messages[-1]["result"]["isError"]
        assert "stopping" in messages[-1]["result"]["content"][0]["text"]
        await code_of(mcp)


async def test_a_session_over_http_ends_with_its_streams(tmp_path):
    async with running(tmp_path, {"one": Sim()}) as trillm:
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello()}
        opened = await trillm.client.post("/mcp", content=json.dumps(message), headers=headers)
        headers = {"accept": "text/event-stream", "mcp-session-id": opened.headers["mcp-session-id"]}
        with trio.fail_after(5):
            async with trillm.client.stream("GET", "/mcp", headers=headers) as stream, trio.open_nursery() as nursery:
                nursery.start_soon(drain, trillm.server, 4.0)
                async for _ in stream.aiter_lines():
                    pass
        assert not trillm.server.mcp.started.http.sessions
