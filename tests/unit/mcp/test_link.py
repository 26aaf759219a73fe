"""Keeping a session: when it begins, what is told when it does not, and that nothing is left of it."""

import json
import math
import sys

import pytest
import trio
from attrs import define, field
from support.cancelling import run_cancelled_at

from trillm.mcp.child import open_child
from trillm.mcp.errors import RpcError
from trillm.mcp.groups import open_groups
from trillm.mcp.link import Link
from trillm.mcp.upstream import Client, open_session, open_upstream
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


@define(eq=False)
class Channel:
    """A server in memory that takes so long for its first answer, or never gives one."""

    takes_s: float
    answers: "trio.MemorySendChannel[bytes]" = field(init=False)
    asked: "trio.MemoryReceiveChannel[bytes]" = field(init=False)

    def __attrs_post_init__(self):
        self.answers, self.asked = trio.open_memory_channel(9)

    async def send(self, message):
        asked = json.loads(message)
        if "id" in asked:
            await self.answers.send(asked)

    async def receive(self):
        asked = await self.asked.receive()
        takes_s, self.takes_s = self.takes_s, 0
        await trio.sleep(takes_s)
        about = {"protocolVersion": "2025-11-25", "capabilities": {}}
        return json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": about})


def a_remembered_link(nursery, takes_s, **fields):
    server = echo(**fields)
    return Link(server, lambda: open_upstream(server, Client(), Channel(takes_s), server.era), nursery)


async def test_a_server_that_does_not_answer_in_time_is_told(nursery, autojump_clock):
    link = a_remembered_link(nursery, math.inf, start_s=30)
    began = trio.current_time()
    with pytest.raises(RpcError, match=r"MCP server 'echo': did not answer within 30 s"):
        await link.request("x", {})
    assert trio.current_time() - began == 30
    assert (link.starts, link.busy, link.current) == (0, 0, None)


async def test_a_server_that_answers_in_time_is_waited_for(nursery, autojump_clock):
    link = a_remembered_link(nursery, 29, start_s=30)
    assert (await link.request("x", {}))["protocolVersion"] == "2025-11-25"
    assert trio.current_time() - link._last_used == 0
    await trio.sleep(299)
    assert link.current is not None
    await trio.sleep(2)
    assert link.current is None


async def test_pauses_between_failures_grow_and_are_told(nursery, autojump_clock):
    link = a_remembered_link(nursery, math.inf, start_s=1)
    waited = []
    for _ in range(4):
        began = trio.current_time()
        with pytest.raises(RpcError, match="did not answer within 1 s"):
            await link.request("x", {})
        waited.append(round(trio.current_time() - began, 1))
    assert waited == [1, 1, 1.5, 2]
    with pytest.raises(RpcError, match="It is tried again in 2 s"):
        await link.request("x", {})


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
