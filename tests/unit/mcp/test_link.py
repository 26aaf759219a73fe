"""Keeping a session: when it begins, what is told when it does not, and that nothing is left of it."""

import sys

import pytest
import trio
from support.cancelling import run_cancelled_at

from trillm.mcp.child import open_child
from trillm.mcp.errors import RpcError
from trillm.mcp.groups import open_groups
from trillm.mcp.link import Link
from trillm.mcp.upstream import Client, open_session
from trillm.registry.mcpentries import McpServer

#: A server of the old era that echoes.
ECHO = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "e", "version": "1"}}
    if asked["method"] != "initialize":
        result = {"asked": asked["method"]}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


def echo(**fields):
    fields = {"era": "legacy"} | fields
    return McpServer("echo", command=sys.executable, args=("-S", "-E", "-c", ECHO), **fields)


def a_link(server, groups, nursery):
    return Link(server, lambda: open_session(server, Client(), groups, era=server.era, schemas=lambda _: None), nursery)


async def test_a_session_begins_with_the_first_request_and_serves_the_next():
    with open_groups() as groups:
        async with trio.open_nursery() as nursery:
            link = a_link(echo(), groups, nursery)
            assert link.current is None
            assert await link.request("x/y", {}) == {"asked": "x/y"}
            assert await link.request("x/z", {}) == {"asked": "x/z"}
            assert (link.starts, link.busy) == (1, 0)
            nursery.cancel_scope.cancel()


async def test_requests_at_once_begin_one_session():
    with open_groups() as groups:
        async with trio.open_nursery() as nursery:
            link = a_link(echo(), groups, nursery)
            async with trio.open_nursery() as asking:
                for _ in range(20):
                    asking.start_soon(link.request, "x/y", {})
            assert link.starts == 1
            nursery.cancel_scope.cancel()


async def test_one_that_ended_starts_nothing_more():
    with open_groups() as groups:
        async with trio.open_nursery() as nursery:
            link = a_link(echo(), groups, nursery)
            await link.request("x/y", {})
            link.end()
            with pytest.raises(RpcError, match="being stopped or was removed"):
                await link.request("x/y", {})


async def test_a_server_that_does_not_answer_in_time_is_told():
    mute = McpServer("mute", command=sys.executable, args=("-c", "import time; time.sleep(99)"), start_s=0.3)
    with open_groups() as groups:
        async with trio.open_nursery() as nursery:
            link = a_link(mute, groups, nursery)
            with pytest.raises(RpcError, match=r"MCP server 'mute': did not answer within 0\.3 s"):
                await link.request("x", {})
            nursery.cancel_scope.cancel()


async def test_a_child_cancelled_at_every_wait_leaves_no_process():
    wait = 1
    processes = []

    async def work():
        with open_groups() as groups:
            async with open_child(echo(), groups) as child:
                processes.append(child.process)
                await child.send(b'{"jsonrpc": "2.0", "id": 1, "method": "x"}')
                await child.receive()

    while await run_cancelled_at(wait, work):
        wait += 1
    assert wait > 5
    assert all(process.returncode is not None for process in processes)


async def test_a_request_cancelled_at_every_wait_leaves_the_session_good():
    with open_groups() as groups:
        async with trio.open_nursery() as nursery:
            link = a_link(echo(), groups, nursery)
            wait = 1
            while await run_cancelled_at(wait, lambda: link.request("x/y", {})):
                assert link.busy == 0
                assert await link.request("x/z", {}) == {"asked": "x/z"}
                wait += 1
            assert link.starts == 1
            nursery.cancel_scope.cancel()
