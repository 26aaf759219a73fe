"""Chats whose tools are run by real MCP servers: a whole trillm, processes behind it, a directed model."""

import json
import sys

import openai
import pytest
import trio
from support.mcpfront import PROGRAM
from support.running import Sim, chat, running
from support.tools import calls, mcp, turns

from trillm.keys import Grants
from trillm.registry.store import Store

PATH = "/v1/chat/completions"


def demo(*options, **fields):
    return {"command": sys.executable, "args": ["-W", "ignore", PROGRAM, "stdio", *options], **fields}


def call(name, arguments):
    return {"calls": [{"name": name, "arguments": arguments}]}


def asking(*answers, servers=("demo",), **members):
    return chat(tools=[mcp(name) for name in servers], x_sim=turns(*answers, tokens=80), **members)


async def said(trillm, body, **headers):
    reply = await trillm.post(PATH, body, **headers)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("era", ["both", "legacy", "modern"])
async def test_a_tool_of_a_server_is_run_and_its_result_answered_with(tmp_path, era):
    document = {"mcp_servers": {"demo": demo("--era", era)}, "budgets": {"chat": 20}}
    async with running(tmp_path, {"one": Sim()}, document=document) as trillm:
        assert "A tool said: 5" in await said(trillm, asking(call("demo__add", {"a": 2, "b": 3})))


async def test_two_servers_through_the_openai_client_streamed(tmp_path):
    document = {"mcp_servers": {"one": demo("--name", "one"), "two": demo("--name", "two")}, "budgets": {"chat": 20}}
    async with running(tmp_path, {"sim": Sim()}, document=document) as trillm:
        body = asking(
            call("one__add", {"a": 2, "b": 3}), call("two__headed", {"region": "north"}), servers=("one", "two")
        )
        extra = {"x_sim": body.pop("x_sim")}

        def ask():
            with openai.OpenAI(base_url=f"{trillm.url}/v1", api_key="none", max_retries=0) as client:
                return list(client.chat.completions.create(**body, stream=True, extra_body=extra))

        chunks = [chunk.choices[0] for chunk in await trio.to_thread.run_sync(ask) if chunk.choices]
        content = "".join(choice.delta.content or "" for choice in chunks)
        assert "A tool said: 5" in content
        assert "A tool said: region north" in content
        assert [choice.finish_reason for choice in chunks if choice.finish_reason] == ["stop"]


async def test_what_cannot_be_done_is_told_to_the_model_or_to_the_caller(tmp_path):
    broken = {"command": sys.executable, "args": ["-c", "import sys; sys.exit('no licence')"]}
    servers = {"demo": demo(allow_tools=["add", "exit", "ask"]), "broken": broken, "off": demo(enabled=False)}
    document = {"mcp_servers": servers, "budgets": {"chat": 20}}
    async with running(tmp_path, {"one": Sim()}, document=document) as trillm:
        for name, status, problem in (
            ("broken", 502, "no licence"),
            ("off", 400, "There is no MCP server 'off'"),
            ("nothing", 400, "There is no MCP server 'nothing'"),
        ):
            reply = await trillm.post(PATH, asking(calls("x"), servers=(name,)))
            assert reply.status_code == status, reply.text
            assert problem in reply.json()["error"]["message"]
        assert "Error: MCP server 'demo': it" in await said(trillm, asking(calls("demo__exit")))
        assert "Error: This tool asks a" in await said(trillm, asking(calls("demo__ask")))
        restricted = chat(tools=[mcp("demo", allowed_tools=["count"])], x_sim=turns(calls("x"), tokens=8))
        reply = await trillm.post(PATH, restricted)
        assert (reply.status_code, "allow_tools" in reply.text) == (403, True)


async def test_a_key_has_its_own_session_and_only_what_it_may_use(tmp_path):
    document = {"mcp_servers": {"demo": demo("--era", "legacy"), "other": demo()}, "budgets": {"chat": 20}}
    keys = Store(tmp_path / "servers.json").keys
    one, two = keys.create("one"), keys.create("two", Grants(mcp_servers=("demo",), tools=("demo__remember",)))
    async with running(tmp_path, {"sim": Sim()}, document=document) as trillm:

        async def remembered(token):
            return await said(trillm, asking(calls("demo__remember")), authorization=f"Bearer {token}")

        assert "A tool said: 1" in await remembered(one)
        assert "A tool said: 2" in await remembered(one)
        assert "A tool said: 1" in await remembered(two)
        reply = await trillm.post(PATH, asking(calls("x"), servers=("other",)), authorization=f"Bearer {two}")
        assert reply.status_code == 403
        assert "This key may not use the MCP server 'other'" in json.loads(reply.text)["error"]["message"]


# ── responses ───────────────────────────────────────────────────────────────────────────────────────────────────────


FUNCTION = {"type": "function", "name": "own", "parameters": {"type": "object", "properties": {}}}


def response(*answers, servers=("demo",), **members):
    asked = {"model": "sim-chat", "input": "Hi", "tools": [mcp(name) for name in servers]}
    return asked | {"x_sim": turns(*answers, tokens=80)} | members


def streamed_response(trillm, body):
    body = dict(body)
    extra = {"x_sim": body.pop("x_sim")}
    with (
        openai.OpenAI(base_url=f"{trillm.url}/v1", api_key="none", max_retries=0) as client,
        client.responses.stream(**body, extra_body=extra) as stream,
    ):
        return list(stream), stream.get_final_response()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response_has_tools_run_and_shows_them_as_openais_items(tmp_path, streamed):
    document = {"mcp_servers": {"demo": demo(), "two": demo("--name", "two")}, "budgets": {"chat": 20}}
    both = {"calls": [*call("demo__add", {"a": 2, "b": 3})["calls"], *calls("two__ask")["calls"]]}
    async with running(tmp_path, {"one": Sim()}, document=document) as trillm:
        body = response(both, servers=("demo", "two"))
        if streamed:
            events, final = await trio.to_thread.run_sync(streamed_response, trillm, body)
            kinds = [event.type for event in events]
            for kind in ("mcp_list_tools.completed", "mcp_call.in_progress", "mcp_call_arguments.done"):
                assert kinds.count(f"response.{kind}") == 2
            assert kinds.count("response.mcp_call.completed") == kinds.count("response.mcp_call.failed") == 1
            assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
            assert [event.sequence_number for event in events] == sorted({e.sequence_number for e in events})
            told = final.to_dict()
        else:
            reply = await trillm.post("/v1/responses", body)
            assert reply.status_code == 200, reply.text
            told = reply.json()
    lists, ran, (said,) = told["output"][:2], told["output"][2:4], told["output"][4:]
    assert [(item["type"], item["server_label"]) for item in lists] == [
        ("mcp_list_tools", "demo"),
        ("mcp_list_tools", "two"),
    ]
    assert {"add", "ask"} <= {tool["name"] for tool in lists[0]["tools"]}
    assert [(item["server_label"], item["name"], item["status"]) for item in ran] == [
        ("demo", "add", "completed"),
        ("two", "ask", "failed"),
    ]
    assert (ran[0]["output"], ran[0]["error"], json.loads(ran[0]["arguments"])) == ("5", None, {"a": 2, "b": 3})
    assert "asks a person" in ran[1]["error"]["content"][0]["text"]
    assert "A tool said: 5" in said["content"][0]["text"]
    assert told["status"] == "completed"
    assert told["usage"]["input_tokens"] > 0


async def test_a_route_has_tools_run_for_responses_too(tmp_path):
    routes = {"agent": {"to": ["one/sim-chat"], "mcp_servers": ["demo"]}}
    document = {"mcp_servers": {"demo": demo()}, "budgets": {"chat": 20}, "routes": routes}
    async with running(tmp_path, {"one": Sim()}, document=document) as trillm:
        body = response(call("demo__add", {"a": 2, "b": 3}), model="agent")
        del body["tools"]
        reply = await trillm.post("/v1/responses", body)
        assert reply.status_code == 200, reply.text
        assert [item["type"] for item in reply.json()["output"]] == ["mcp_list_tools", "mcp_call", "message"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_response_cannot_have_is_an_error_that_says_where(tmp_path, streamed):
    document = {"mcp_servers": {"demo": demo()}, "budgets": {"chat": 20}}
    async with running(tmp_path, {"one": Sim()}, document=document) as trillm:
        for tools, problem in (
            ([mcp("nothing")], "There is no MCP server 'nothing'"),
            ([FUNCTION, mcp("demo", require_approval="always")], "tools[1].require_approval"),
            ([mcp("x", server_url="https://mcp.example/")], "tools[0].server_url: 'https://mcp.example/' is not"),
            ([mcp("demo"), {"type": "web_search"}], "has a 'web_search' tool"),
        ):
            reply = await trillm.post("/v1/responses", response(calls("x"), stream=streamed) | {"tools": tools})
            assert (reply.status_code, problem in reply.json()["error"]["message"]) == (400, True), reply.text


async def test_a_responses_own_functions_are_handed_back_and_what_ran_is_history(tmp_path):
    document = {"mcp_servers": {"demo": demo()}, "budgets": {"chat": 20}}
    async with running(tmp_path, {"one": Sim()}, document=document) as trillm:
        body = response(call("demo__add", {"a": 2, "b": 3}), calls("own")) | {"tools": [FUNCTION, mcp("demo")]}
        told = (await trillm.post("/v1/responses", body)).json()
        assert [item["type"] for item in told["output"]] == ["mcp_list_tools", "mcp_call", "function_call"]
        handed = told["output"][2]
        assert handed["name"] == "own"
        output = {"type": "function_call_output", "call_id": handed["call_id"], "output": "mine"}
        history = [{"role": "user", "content": "Hi"}, *told["output"], output]
        again = await trillm.post("/v1/responses", response() | {"input": history})
        assert again.status_code == 200, again.text
