"""trillm as an MCP server, to the SDK's own client: the same over each transport and in each era."""

import json
from contextlib import asynccontextmanager

import mcp_types as t
import pytest
import trio
from mcp import MCPError
from support.mcpclient import LEFT_BEHIND, NEW, OLD, client, hello, raw
from support.running import Sim, running

from trillm.keys import Grants
from trillm.registry.store import Store
from trillm.sim.settings import SimSettings

pytestmark = pytest.mark.filterwarnings(*LEFT_BEHIND)

PROMPTS = {
    "greet": {
        "description": "Say hello",
        "text": "Greet {{who}} with {{model}}",
        "arguments": {"who": {"required": True, "values": ["Ada", "Alan", "Grace"]}, "model": {}},
    }
}


@pytest.fixture(params=["ws", "http"])
def transport(request):
    return request.param


@pytest.fixture(params=[OLD, NEW, "auto"])
def mode(request):
    return request.param


@pytest.fixture
async def trillm(tmp_path):
    async with running(tmp_path, {"one": Sim()}, document={"prompts": PROMPTS}) as trillm:
        yield trillm


@pytest.mark.parametrize("mode", [OLD, "auto"])  # told the era, the client asks nothing
async def test_who_trillm_is(trillm, transport, mode):
    async with client(trillm, transport, mode) as mcp:
        assert mcp.server_info.name == "trillm"
        assert mcp.server_capabilities.tools.list_changed


async def test_every_tool_has_a_schema_and_says_whether_it_changes_anything(trillm, transport, mode):
    async with client(trillm, transport, mode) as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
    assert list(tools) == ["chat", "embed", "rerank", "list_models", "server_status"]
    for tool in tools.values():
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert tool.annotations.read_only_hint is True


async def test_chat_answers_with_text_and_structure(trillm, transport, mode):
    async with client(trillm, transport, mode) as mcp:
        answer = await mcp.call_tool("chat", {"model": "sim-chat", "system": "Be brief.", "prompt": "Hello!"})
    assert not answer.is_error
    assert answer.structured_content["content"] == answer.content[0].text
    assert "2 messages" in answer.content[0].text
    assert answer.structured_content["server"] == "one"
    assert answer.structured_content["finish_reason"] == "stop"
    assert answer.structured_content["usage"]["completion_tokens"] > 0


async def test_progress_counts_the_tokens_and_the_whole_answer_is_the_same(trillm, transport, mode):
    told = []

    async def on_progress(progress, total, message):
        told.append((progress, total, message))

    arguments = {"model": "sim-chat", "prompt": "Hello!", "max_tokens": 500}
    async with client(trillm, transport, mode) as mcp:
        plain = await mcp.call_tool("chat", arguments)
        streamed = await mcp.call_tool("chat", arguments, progress_callback=on_progress)
        with trio.fail_after(1):  # the SDK runs each callback in a task of its own
            while not told or max(told)[0] < plain.structured_content["usage"]["completion_tokens"]:
                await trio.sleep(0.01)
    assert streamed.structured_content == plain.structured_content
    assert max(told)[1:] == (500.0, f"{max(told)[0]:g} tokens")


async def test_vectors_and_ranks(trillm, transport, mode):
    async with client(trillm, transport, mode) as mcp:
        vectors = await mcp.call_tool("embed", {"model": "sim-embed", "input": ["a", "b"]})
        ranks = await mcp.call_tool("rerank", {"model": "sim-rerank", "query": "cat", "documents": ["dog", "cat"]})
    assert len(vectors.structured_content["embeddings"]) == 2
    assert [rank["index"] for rank in ranks.structured_content["results"]] == [1, 0]


async def test_what_a_model_can_mend_is_a_result_that_says_so(trillm, transport, mode):
    async with client(trillm, transport, mode) as mcp:
        for arguments, words in (
            ({"model": "nope", "prompt": "x"}, "does not exist"),
            ({"model": "sim-chat"}, "either 'prompt' or 'messages'"),
            ({"model": "sim-chat", "prompt": 1}, "Expected `str`, got `int` - at `$.prompt`"),
            ({"model": "sim-embed", "prompt": "x"}, "sim-embed"),
            ({"prompt": "x"}, "missing required field `model`"),
            ({"model": "sim-chat", "prompt": "x", "n": 3}, "unknown field `n`"),
        ):
            answer = await mcp.call_tool("chat", arguments)
            assert answer.is_error, arguments
            assert words in answer.content[0].text


async def test_what_does_not_exist_is_an_error(trillm, transport, mode):
    async with client(trillm, transport, mode) as mcp:
        for attempt in (
            mcp.call_tool("nope", {}),
            mcp.read_resource("trillm://nope"),
            mcp.read_resource("trillm://servers/nope"),
            mcp.get_prompt("nope", {}),
            mcp.get_prompt("greet", {}),
            mcp.get_prompt("greet", {"who": "x", "how": "y"}),
            mcp.list_tools(cursor="nope"),
        ):
            with pytest.raises(MCPError) as caught:
                await attempt
            assert caught.value.code in (-32602, -32002)


async def test_servers_models_and_metrics_can_be_read(trillm, transport, mode):
    async with client(trillm, transport, mode) as mcp:
        listed = [str(resource.uri) for resource in (await mcp.list_resources()).resources]
        templates = (await mcp.list_resource_templates()).resource_templates
        read = {uri: (await mcp.read_resource(uri)).contents[0].text for uri in listed}
    assert listed == ["trillm://servers", "trillm://models", "trillm://metrics", "trillm://servers/one"]
    assert [template.uri_template for template in templates] == ["trillm://servers/{name}"]
    assert json.loads(read["trillm://servers/one"])["state"] == "up"
    assert "sim-chat" in read["trillm://models"]
    assert "trillm_running" in read["trillm://metrics"]


async def test_prompts_are_filled_in_and_completed(trillm, transport, mode):
    async with client(trillm, transport, mode) as mcp:
        (prompt,) = (await mcp.list_prompts()).prompts
        filled = await mcp.get_prompt("greet", {"who": "Ada", "model": "sim-chat"})
        ref = t.PromptReference(type="ref/prompt", name="greet")
        who = await mcp.complete(ref, {"name": "who", "value": "a"})
        model = await mcp.complete(ref, {"name": "model", "value": "sim-c"})
        uri = t.ResourceTemplateReference(type="ref/resource", uri="trillm://servers/{name}")
        server = await mcp.complete(uri, {"name": "name", "value": ""})
    assert [(a.name, a.required) for a in prompt.arguments] == [("who", True), ("model", False)]
    assert filled.messages[0].content.text == "Greet Ada with sim-chat"
    assert [answer.completion.values for answer in (who, model, server)] == [["Ada", "Alan"], ["sim-chat"], ["one"]]


async def test_log_messages_follow_the_level_of_either_era(trillm):
    async with raw(trillm) as old:
        await old.initialize()
        await old.ask("logging/setLevel", {"level": "error"})
        failing = {"name": "chat", "arguments": {"model": "nope", "prompt": "x"}}
        assert (await messages_of(old, "tools/call", failing))[:-1] == []
        await old.ask("logging/setLevel", {"level": "info"})
        logged, _ = await messages_of(old, "tools/call", failing)
        assert logged["params"]["level"] == "warning"
        refused = await old.ask("logging/setLevel", {"level": "loud"})
        assert refused["error"]["code"] == -32602
    async with raw(trillm) as new:
        assert len(await messages_of(new, "tools/call", failing, new=True)) == 1
        logged, _ = await messages_of(new, "tools/call", failing, new=True, logLevel="debug")
        assert logged["method"] == "notifications/message"
        assert (await new.ask("logging/setLevel", {"level": "info"}, new=True))["error"]["code"] == -32601


async def messages_of(mcp, method, params, *, new=False, **meta):
    """What comes for one request, the answer last."""
    from support.mcpclient import META, envelope

    more = envelope(**{f"{META}{name}": value for name, value in meta.items()}) if new else {}
    await mcp.send({"jsonrpc": "2.0", "id": "m", "method": method, "params": {**params, **more}})
    messages = [await mcp.receive()]
    while "id" not in messages[-1]:
        messages.append(await mcp.receive())
    return messages


# ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_old_session_is_told_of_what_it_subscribed_to_and_of_lists(trillm):
    async with raw(trillm) as mcp:
        await mcp.initialize()
        await mcp.ask("resources/subscribe", {"uri": "trillm://servers"})
        await add_server(trillm, "two")
        told = {json.dumps(await mcp.receive(), sort_keys=True) for _ in range(2)}
        assert any("notifications/resources/list_changed" in one for one in told)
        assert any('"trillm://servers"' in one for one in told)


async def test_a_new_client_listens(trillm):
    from support.mcpclient import META, envelope

    async with raw(trillm) as mcp:
        wanted = {"resourcesListChanged": True, "promptsListChanged": False, "resourceSubscriptions": []}
        params = {"notifications": wanted, **envelope()}
        await mcp.send({"jsonrpc": "2.0", "id": "listen-1", "method": "subscriptions/listen", "params": params})
        acknowledged = await mcp.receive()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == {"resourcesListChanged": True}
        await add_server(trillm, "two")
        told = await mcp.receive()
        assert told["method"] == "notifications/resources/list_changed"
        assert told["params"]["_meta"] == {f"{META}subscriptionId": "listen-1"}
        await mcp.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "listen-1"}})
        assert (await mcp.ask("tools/list", new=True))["result"]["tools"]


async def add_server(trillm, name):
    from trillm.registry.document import Server

    store = trillm.server.services.registry.store
    await trio.to_thread.run_sync(
        store.update, lambda document: document.with_server(Server(name, "http://127.0.0.1:1"))
    )


# ── access ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def connected(trillm, transport, mode, token):
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from support.mcpclient import over_websocket

    headers = {"authorization": f"Bearer {token}"}
    if transport == "ws":
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        socket = over_websocket(trillm.url.replace("http", "ws") + "/mcp", extra_headers=extra)
        async with Client(socket, mode=mode) as mcp:
            yield mcp
        return
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(trillm.url + "/mcp", http_client=http), mode=mode) as mcp,
    ):
        yield mcp


async def test_a_key_is_shown_and_may_call_only_what_it_is_for(tmp_path, transport, mode):
    token = Store(tmp_path / "servers.json").keys.create("a", Grants(models=("sim-embed",), tools=("chat", "list_*")))
    async with running(tmp_path, {"one": Sim()}) as trillm, connected(trillm, transport, mode, token) as mcp:
        assert [tool.name for tool in (await mcp.list_tools()).tools] == ["chat", "list_models"]
        models = (await mcp.call_tool("list_models", {})).structured_content["models"]
        assert [model["id"] for model in models] == ["sim-embed"]
        for name, arguments in (("embed", {}), ("add_server", {}), ("chat", {"model": "sim-chat", "prompt": "x"})):
            with pytest.raises(MCPError) as caught:
                await mcp.call_tool(name, arguments)
            assert (caught.value.code, "not for" in caught.value.message) == (-32003, True)


async def test_an_admin_key_changes_what_is_served(tmp_path, transport, mode):
    token = Store(tmp_path / "servers.json").keys.create("ops", Grants(admin=True))
    async with running(tmp_path, {"one": Sim()}) as trillm, connected(trillm, transport, mode, token) as mcp:
        added = await mcp.call_tool("add_server", {"name": "two", "url": trillm.sims["one"], "kind": "builtin"})
        assert added.structured_content == {"done": "Added two."}
        taken = await mcp.call_tool("add_server", {"name": "two", "url": "http://127.0.0.1:1"})
        assert taken.is_error
        assert "there is a server of that name" in taken.content[0].text
        with trio.fail_after(5):
            while "two" not in trillm.pool.members:
                await trio.sleep(0.02)
        await mcp.call_tool("disable_server", {"name": "two"})
        assert Store(tmp_path / "servers.json").read().servers["two"].enabled is False
        await mcp.call_tool("enable_server", {"name": "two"})
        await mcp.call_tool("remove_server", {"name": "two"})
        assert set(Store(tmp_path / "servers.json").read().servers) == {"one"}
        shown = (await mcp.call_tool("server_status", {})).structured_content["servers"]
        assert shown[0]["url"] == trillm.sims["one"]


@pytest.mark.parametrize("slow", [SimSettings(ttft_s=60.0), SimSettings(itl_s=60.0)], ids=["before", "while"])
async def test_a_call_taken_back_is_taken_back_from_the_backend(tmp_path, transport, mode, slow):
    arguments = {"model": "sim-chat", "prompt": "x"}
    async with running(tmp_path, {"one": Sim(slow)}) as trillm, client(trillm, transport, mode) as mcp:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mcp.call_tool, "chat", arguments)
            with trio.fail_after(5):
                while not (await trillm.sim_stats("one"))["in_flight"]:
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
        await trillm.settled("one", within_s=1)
        assert not (await mcp.call_tool("list_models", {})).is_error


# ── ports ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_websockets_are_served_on_both_ports_also_under_tls(tmp_path, secure, certificate):
    import ssl

    import trio_websocket as tw
    from support.mcpclient import Raw

    authority, path = certificate
    context = ssl.create_default_context()
    authority.configure_trust(context)
    options = {"certfile": path, "authority": authority} if secure else {}
    async with running(tmp_path, {"one": Sim()}, mcp_port=0, **options) as trillm:
        for url in (trillm.url.replace("http", "ws", 1) + "/mcp", trillm.server.mcp_url):
            assert url.startswith("wss:" if secure else "ws:")
            async with tw.open_websocket_url(url, context if secure else None, subprotocols=["mcp"]) as socket:
                mcp = Raw(socket)
                await mcp.initialize()
                assert "result" in await mcp.ask("tools/list")


async def test_the_port_for_websockets_serves_nothing_else(tmp_path):
    async with running(tmp_path, {"one": Sim()}, mcp_port=0) as trillm:
        port = int(trillm.server.mcp_url.rpartition(":")[2].removesuffix("/mcp"))
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            with trio.fail_after(5):
                assert b"200" not in (await stream.receive_some()).split(b"\r\n")[0]


async def test_new_prompts_are_told_of(trillm):
    async with raw(trillm) as mcp:
        await mcp.initialize()
        path = trillm.server.services.registry.store.path
        path.write_text(path.read_text().replace('"greet"', '"welcome"'))
        assert (await mcp.receive())["method"] == "notifications/prompts/list_changed"
        assert [prompt["name"] for prompt in (await mcp.ask("prompts/list"))["result"]["prompts"]] == ["welcome"]


async def test_sessions_over_http_come_and_go_and_nothing_is_left(tmp_path):
    slow = Sim(SimSettings(ttft_s=60.0))
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    ask = {"name": "chat", "arguments": {"model": "sim-chat", "prompt": "x"}}

    async def post(trillm, method, params, **more):
        message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return await trillm.client.post("/mcp", content=message, headers={**headers, **more})

    async def visit(trillm):
        opened = await post(trillm, "initialize", hello())
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        with trio.move_on_after(0.1):
            await post(trillm, "tools/call", ask, **session)
        assert (await trillm.client.delete("/mcp", headers=session)).status_code == 200

    async with running(tmp_path, {"one": slow}) as trillm:
        await trillm.server.mcp.face()
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(visit, trillm)
        await trillm.settled("one", within_s=3)
        with trio.fail_after(5):
            while trio.lowlevel.current_statistics().tasks_living > before + 25:  # connections that are kept
                await trio.sleep(0.05)
        assert (trillm.gateway.running, trillm.server.mcp.started.http.sessions) == (0, {})
        assert not trillm.server.mcp.started.endpoint._dismissals
