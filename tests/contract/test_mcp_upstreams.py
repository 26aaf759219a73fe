"""What upstream MCP servers do to trillm, and what it lets them do to others: nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import mcp_types as t
import pytest
import trio
from mcp.shared.exceptions import MCPError
from support.mcpfront import MODES, elicit, fronted, program, stdio, text, until

from trillm.keys import Grants, KeyRecord, Keyring, digest
from trillm.mcp import links
from trillm.registry.mcpentries import McpServer

pytestmark = pytest.mark.filterwarnings("ignore:.*SEP-2577")
TRANSPORTS = ("stdio", "http", "ws")
#: Answers `initialize` and nothing else.
DEAF = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        info = {"name": "deaf", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
    elif asked["method"] == "server/discover":
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
"""


def deaf(**fields: Any) -> McpServer:
    return McpServer("deaf", command=sys.executable, args=("-c", DEAF), **fields)


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        return once.getsockname()[1]


def tool_names(listed: t.ListToolsResult) -> list[str]:
    return [tool.name for tool in listed.tools]


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def pid_of(front: Any, name: str) -> int:
    return front.upstreams.links[name].shared.current.peer.channel.process.pid


@asynccontextmanager
async def killable(transport: str, **fields: Any) -> Any:
    """A gateway before one upstream, and what kills and revives that."""
    if transport == "stdio":
        async with fronted(stdio("demo", **fields)) as front:

            def kill() -> None:
                links = front.upstreams.links["demo"]
                sessions = [links.shared, *(link for link, _ in links._private.values())]
                for link in sessions:
                    if link.current is not None:
                        os.kill(link.current.peer.channel.process.pid, signal.SIGKILL)

            yield front, kill, lambda: None
        return
    with ExitStack() as stack:
        process, url = stack.enter_context(program(transport))

        def kill() -> None:
            process.kill()
            process.wait()

        def revive() -> None:
            stack.enter_context(program(transport, "--port", url.rpartition(":")[2].partition("/")[0]))

        async with fronted(McpServer("demo", url=url, **fields)) as front:
            yield front, kill, revive


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_killed_in_the_middle_of_a_call_the_caller_knows_at_once_and_the_next_call_works(transport, mode):
    async with killable(transport) as (front, kill, revive), front.client(mode) as client:
        await client.call_tool("demo__add", {"a": 1, "b": 1})
        failed_s = -1.0
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                nonlocal failed_s
                with pytest.raises(MCPError, match="MCP server 'demo': "):
                    await client.call_tool("demo__sleep", {})
                failed_s = trio.current_time() - killed

            nursery.start_soon(call)
            await trio.sleep(0.5)
            kill()
            killed = trio.current_time()
        assert 0 <= failed_s < 1
        revive()
        again = trio.current_time()
        assert text(await client.call_tool("demo__add", {"a": 2, "b": 2})) == "4"
        assert trio.current_time() - again < 2 + (0 if transport == "stdio" else 1)


@pytest.mark.parametrize("mode", MODES)
async def test_one_that_is_down_and_one_that_is_deaf_neither_blank_nor_delay_the_lists(mode, closed_port):
    down = McpServer("down", url=f"http://127.0.0.1:{closed_port}/mcp")
    async with fronted(down, deaf(list_s=0.5), stdio("demo")) as front, front.client(mode) as client:
        began = time.monotonic()
        listed = await client.list_tools()
        assert time.monotonic() - began < 4
        assert tool_names(listed)[:2] == ["own", "demo__add"]
        unavailable = listed.meta["trillm/unavailable"]
        assert "cannot connect to" in unavailable["down"]
        assert "did not answer in 0.5 s" in unavailable["deaf"]
        with pytest.raises(MCPError, match=r"MCP server 'down': .*cannot connect to"):
            await client.call_tool("down__x", {})
        assert text(await client.call_tool("demo__add", {"a": 1, "b": 1})) == "2"


async def test_a_list_that_cannot_be_had_is_shown_as_it_was_last_seen():
    with program("ws") as (process, url):
        async with fronted(McpServer("demo", url=url)) as front, front.client("2026-07-28") as client:
            before = tool_names(await client.list_tools())
            process.kill()
            process.wait()
            await until(lambda: front.upstreams.links["demo"].shared.current is None)
            front.upstreams.links["demo"].lists.stale(["tools/list"])
            listed = await client.list_tools(cache_mode="bypass")
            assert tool_names(listed) == before
            assert "demo" in listed.meta["trillm/unavailable"]


async def test_a_session_the_upstream_has_forgotten_is_renewed_without_the_caller_noticing():
    with program("http", "--era", "legacy") as (process, url):
        port = url.rpartition(":")[2].partition("/")[0]
        async with fronted(McpServer("demo", url=url)) as front, front.client("legacy") as client:
            assert text(await client.call_tool("demo__remember", {})) == "1"
            assert text(await client.call_tool("demo__remember", {})) == "2"
            process.kill()
            process.wait()
            with program("http", "--era", "legacy", "--port", port):
                assert text(await client.call_tool("demo__remember", {})) == "1"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_clients_of_the_old_era_do_not_share_a_session(transport):
    async with (
        killable(transport) as (front, _, _),
        front.client("legacy") as one,
        front.client("legacy") as two,
    ):
        assert text(await one.call_tool("demo__remember", {})) == "1"
        assert text(await one.call_tool("demo__remember", {})) == "2"
        assert text(await two.call_tool("demo__remember", {})) == "1"
        assert front.upstreams.links["demo"].sessions == 2


async def test_a_session_of_a_client_that_leaves_is_ended_with_its_process():
    async with fronted(stdio("demo", "--era", "legacy")) as front:
        async with front.client("legacy") as client:
            await client.call_tool("demo__remember", {})
            ((link, _),) = front.upstreams.links["demo"]._private.values()
            pid = link.current.peer.channel.process.pid
            assert alive(pid)
        await until(lambda: not alive(pid))
        assert front.upstreams.links["demo"].sessions == 0


async def test_sessions_shared_by_choice_are_one_process():
    async with (
        fronted(stdio("demo", "--era", "legacy", sessions="shared")) as front,
        front.client("legacy") as one,
        front.client("legacy") as two,
    ):
        assert text(await one.call_tool("demo__remember", {})) == "1"
        assert text(await two.call_tool("demo__remember", {})) == "2"


async def test_an_unused_session_is_ended_and_begun_again_when_it_is_needed():
    async with fronted(stdio("demo", idle_s=0.3)) as front, front.client("2026-07-28") as client:
        await client.call_tool("demo__add", {"a": 1, "b": 1})
        pid = pid_of(front, "demo")
        await until(lambda: not alive(pid))
        assert tool_names(await client.list_tools())
        assert text(await client.call_tool("demo__add", {"a": 1, "b": 1})) == "2"
        assert front.upstreams.links["demo"].shared.starts >= 2


async def test_one_that_never_starts_is_told_and_not_tried_again_and_again():
    broken = McpServer("broken", command=sys.executable, args=("-c", "import sys; sys.exit('no licence')"))
    async with fronted(broken) as front, front.client("2026-07-28") as client:
        for _ in range(12):
            with pytest.raises(MCPError, match="ended with status 1: no licence"):
                await client.call_tool("broken__x", {})
        assert 2 <= front.upstreams.links["broken"].shared._failures <= 4
        with pytest.raises(MCPError, match="It is tried again in"):
            await client.call_tool("broken__x", {})


async def test_a_call_that_takes_too_long_is_taken_back(tmp_path):
    journal = tmp_path / "journal"
    server = stdio("demo", "--journal", str(journal), call_s=1.0)
    async with fronted(server) as front, front.client("2026-07-28") as client:
        await client.list_tools()
        with pytest.raises(MCPError, match="did not answer in 1 s"):
            await client.call_tool("demo__sleep", {})
        await until(lambda: journal.read_text().split() == ["started", "cancelled"])


@pytest.mark.parametrize("mode", MODES)
async def test_progress_comes_in_order_and_before_the_result(mode):
    seen: list[float] = []
    async with fronted(stdio("demo")) as front, front.client(mode) as client:

        async def told(done: float, *_: Any) -> None:
            seen.append(done)

        for _ in range(5):
            await client.call_tool("demo__steps", {}, progress_callback=told)
        await until(lambda: len(seen) == 250)
        assert sorted(seen) == sorted(list(range(1, 51)) * 5)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_restarted_under_load_every_call_is_answered_and_soon_well_again(transport):
    outcomes: list[tuple[float, str]] = []
    async with killable(transport) as (front, kill, revive), front.client("2026-07-28") as client:
        await client.list_tools()

        async def keep_calling() -> None:
            while True:
                with trio.fail_after(8):
                    try:
                        outcome = text(await client.call_tool("demo__add", {"a": 2, "b": 2}))
                    except MCPError as error:
                        outcome = error.error.message
                        await trio.sleep(0.05)
                outcomes.append((trio.current_time(), outcome))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(keep_calling)
            await trio.sleep(0.5)
            kill()
            killed = trio.current_time()
            revive()
            await trio.sleep(4)
            nursery.cancel_scope.cancel()
    wrong = [outcome for at, outcome in outcomes if outcome != "4" and at > killed + 3]
    assert not wrong
    assert {outcome for _, outcome in outcomes if outcome != "4"} == {
        outcome for _, outcome in outcomes if outcome.startswith("MCP server 'demo': ")
    }
    assert [outcome for at, outcome in outcomes if at < killed].count("4") > 8


async def test_clients_of_the_old_era_do_not_start_processes_without_end(monkeypatch):
    monkeypatch.setattr(links, "MOST_PRIVATE", 1)
    async with (
        fronted(stdio("demo", "--era", "legacy")) as front,
        front.client("legacy") as one,
        front.client("legacy") as two,
    ):
        assert text(await one.call_tool("demo__remember", {})) == "1"
        with pytest.raises(MCPError, match="has 1 clients with sessions of their own already"):
            await two.call_tool("demo__remember", {})


# ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("era", ["both", "legacy", "modern"])
@pytest.mark.parametrize("mode", MODES)
async def test_changes_reach_who_listens(era, mode):
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(type(message).__name__)

    async with fronted(stdio("demo", "--era", era)) as front, front.client(mode, message_handler=hear) as client:
        await client.list_tools()
        if mode == "legacy":
            await client.session.send_request(
                t.SubscribeRequest(params=t.SubscribeRequestParams(uri="demo://clock")), t.EmptyResult
            )
            await touch_and_grow(client)
            await until(lambda: {"ResourceUpdatedNotification", "ToolListChangedNotification"} <= set(heard))
        else:
            async with client.listen(tools_list_changed=True, resource_subscriptions=["demo://clock"]) as events:
                await until(lambda: front.upstreams.links["demo"].watch.wanted)
                await trio.sleep(0.3)
                await touch_and_grow(client)
                with trio.fail_after(5):
                    kinds = {type(await anext(events)).__name__ for _ in range(2)}
                assert kinds == {"ResourceUpdated", "ToolsListChanged"}
            await until(lambda: not front.upstreams.links["demo"].watch.wanted)


async def touch_and_grow(client: Any) -> None:
    await client.call_tool("demo__touch", {})
    await client.call_tool("demo__grow", {})


# ── permissions ─────────────────────────────────────────────────────────────────────────────────────────────────


def keyring(**grants: Any) -> Keyring:
    return Keyring((KeyRecord("laptop", digest("tl-1"), "2026-01-01", Grants(**grants)),))


@pytest.mark.parametrize("path", ["", "/demo"])
async def test_a_key_sees_and_calls_what_it_may_and_is_told_what_it_may_not(path):
    prefix = "" if path else "demo__"
    keys = keyring(mcp_servers=("demo",), tools=("own", "demo__a*"))
    async with (
        fronted(stdio("demo"), stdio("other"), keyring=keys) as front,
        front.client("2026-07-28", path, "tl-1") as client,
    ):
        seen = [name for name in tool_names(await client.list_tools()) if name != "own"]
        assert seen == [f"{prefix}add", f"{prefix}ask"]
        with pytest.raises(MCPError, match="This key may not call the tool 'demo__count'") as refused:
            await client.call_tool(f"{prefix}count", {})
        assert refused.value.error.code == -32003
        if not path:
            with pytest.raises(MCPError, match="This key may not use the MCP server 'other'"):
                await client.call_tool("other__add", {"a": 1, "b": 1})
            with pytest.raises(MCPError, match="This key may not use the MCP server 'other'"):
                await client.read_resource("mcp://other/demo://clock")


@pytest.mark.parametrize("path", ["", "/demo"])
async def test_a_tool_the_entry_does_not_allow_is_neither_shown_nor_called(path):
    prefix = "" if path else "demo__"
    async with fronted(stdio("demo", allow_tools=("add",))) as front, front.client("legacy", path) as client:
        assert [name for name in tool_names(await client.list_tools()) if name != "own"] == [f"{prefix}add"]
        with pytest.raises(MCPError, match=r"not among those that mcp_servers\.demo\.allow_tools allows"):
            await client.call_tool(f"{prefix}count", {})


async def test_a_parked_call_is_resumed_by_its_own_caller_and_call_alone():
    keys = Keyring(tuple(KeyRecord(name, digest(name), "2026-01-01") for name in ("tl-1", "tl-2")))
    form = {"elicitation": {"form": {}}}

    async def put(client: Any, tool: str, **more: Any) -> dict[str, Any]:
        envelope = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": form,
        }
        params = {"name": tool, "arguments": {}, "_meta": envelope, **more}
        return await client.session._dispatcher.send_raw_request("tools/call", params, {})

    async with (
        fronted(stdio("demo", "--era", "legacy"), keyring=keys) as front,
        front.client("2026-07-28", token="tl-1", elicitation_callback=elicit) as one,
        front.client("2026-07-28", token="tl-2", elicitation_callback=elicit) as two,
    ):
        asked = await put(one, "demo__ask")
        assert asked["resultType"] == "input_required"
        ((key, ask),) = asked["inputRequests"].items()
        assert ask["method"] == "elicitation/create"
        answer = {
            "requestState": asked["requestState"],
            "inputResponses": {key: {"action": "accept", "content": {"name": "x"}}},
        }
        for client, tool in ((two, "demo__ask"), (one, "demo__sample")):
            with pytest.raises(MCPError, match="belongs to another call"):
                await put(client, tool, **answer)
        assert (await put(one, "demo__ask", **answer))["content"][0]["text"] == "hello x"
        with pytest.raises(MCPError, match="is unknown, has expired"):
            await put(one, "demo__ask", **answer)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("era", ["both", "legacy", "modern"])
async def test_a_model_of_trillms_answers_sampling_when_the_entry_names_one(era, mode):
    async def sampler(model: str, params: dict[str, Any]) -> dict[str, Any]:
        said = params["messages"][0]["content"]["text"]
        return {"role": "assistant", "model": model, "content": {"type": "text", "text": f"you said {said!r}"}}

    server = stdio("demo", "--era", era, sampling="fast")
    async with fronted(server, sampler=sampler) as front, front.client(mode) as client:
        assert text(await client.call_tool("demo__sample", {})) == "fast: you said 'Say hi'"


async def test_two_with_the_same_resource_are_told_apart():
    async with fronted(stdio("one"), stdio("two")) as front, front.client("2026-07-28") as client:
        listed = [resource.uri for resource in (await client.list_resources()).resources]
        assert listed == ["demo://clock", "mcp://two/demo://clock"]
        assert (await client.read_resource("mcp://two/demo://clock")).contents[0].text == "at demo://clock"


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

HOLDER = """
import sys, trio
from trillm.mcp.groups import open_groups
from trillm.mcp.upstream import Client, open_session
from trillm.registry.mcpentries import McpServer

async def main():
    begin = "import subprocess, sys; p = subprocess.Popen(['sleep', '1000'])"
    script = "; ".join([begin, "print(p.pid, file=sys.stderr, flush=True)", sys.argv[1]])
    server = McpServer("x", command=sys.executable, args=("-c", script))
    with open_groups() as groups:
        from trillm.mcp.child import open_child
        async with open_child(server, groups) as child:
            while not child.said:
                await trio.sleep(0.01)
            print(child.process.pid, child.said, flush=True)
            if sys.argv[2] == "stay":
                await trio.sleep_forever()

trio.run(main)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
@pytest.mark.parametrize("ending", ["leave", "killed"])
async def test_neither_a_stubborn_child_nor_what_it_started_outlives_trillm(ending):
    mode = "leave" if ending == "leave" else "stay"
    holder = subprocess.Popen(  # noqa: ASYNC220 - a moment
        [sys.executable, "-c", HOLDER, STUBBORN, mode], stdout=subprocess.PIPE, text=True
    )
    with holder:
        child, grandchild = map(int, holder.stdout.readline().split())
        assert alive(grandchild)
        if ending == "killed":
            holder.kill()
    await until(lambda: not alive(child) and not alive(grandchild))
