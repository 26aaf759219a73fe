"""Chats that have MCP tools run: one answer, whole or streamed, and an error where there can be none."""

import openai
import pytest
import trio
from support.running import Sim, chat, events
from support.tools import Tools, calls, echoes, mcp, raises, says, turns

from trillm.errors import UpstreamFailed
from trillm.gateway.tools.source import Progress

PATH = "/v1/chat/completions"
WEATHER = {"now": says("21 degrees"), "echo": echoes, "slow": says("done", after_s=0.3)}
OWN = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
async def tools(trillm):
    trillm.gateway.tools = Tools({"weather": WEATHER, "files": {"read": says("a file")}, "empty": {}})
    return trillm.gateway.tools


def asking(*directed, tools=None, stream=False, **members):
    """A chat with MCP tools whose turns are directed."""
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    return chat(tools=tools or [mcp("weather")], stream=stream, x_sim=turns(*directed, tokens=80), **usage, **members)


async def answered(trillm, body, **headers):
    """The answer in one shape, whether it came whole or streamed, and that it is one clean answer."""
    reply = await trillm.post(PATH, body, **headers)
    assert reply.status_code == 200, reply.text
    if not body["stream"]:
        answer = reply.json()
        choice = answer["choices"][0]
        return {
            **choice["message"],
            "finish_reason": choice["finish_reason"],
            "usage": answer["usage"],
            "answer": answer,
        }
    *chunks, done = events(reply.text)
    assert done == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert [choice["delta"].get("role") for choice in choices] == ["assistant"] + [None] * (len(choices) - 1)
    assert [bool(choice["finish_reason"]) for choice in choices] == [False] * (len(choices) - 1) + [True]
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    return {
        "content": content or None,
        "tool_calls": folded(choices),
        "finish_reason": choices[-1]["finish_reason"],
        "usage": chunks[-1]["usage"],
        "chunks": chunks,
    }


def folded(choices):
    made = {}
    for piece in (piece for choice in choices for piece in choice["delta"].get("tool_calls", ())):
        call = made.setdefault(piece["index"], {"id": piece.get("id"), "function": {"name": "", "arguments": ""}})
        call["function"]["name"] += piece["function"].get("name") or ""
        call["function"]["arguments"] += piece["function"].get("arguments") or ""
    assert list(made) == list(range(len(made)))
    return list(made.values())


def names(answer):
    return [call["function"]["name"] for call in answer.get("tool_calls") or ()]


async def refused(trillm, body, status=400, **headers):
    reply = await trillm.post(PATH, body, **headers)
    assert reply.status_code == status, reply.text
    return reply.json()["error"]


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request):
    return request.param


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tools_are_run_and_their_results_answered_with(trillm, tools, stream):
    body = asking(calls("weather__now"), calls("weather__echo"), stream=stream)
    answer = await answered(trillm, body)
    assert "A tool said: 21 degrees A tool said: {}" in answer["content"]
    assert (names(answer), answer["finish_reason"]) == ([], "stop")
    assert [(server, name) for server, name, _, _ in tools.called] == [("weather", "now"), ("weather", "echo")]
    assert answer["usage"]["completion_tokens"] == 80 + 1 + 1  # two turns whose calls are one frame each, and the text


async def test_whole_and_streamed_say_the_same(trillm, tools):
    said = [
        (await answered(trillm, asking(calls("weather__now", say="Let me look."), stream=stream)))["content"]
        for stream in (False, True)
    ]
    assert said[0] == said[1]
    assert said[0].startswith("Let me look.\n\nSimulated answer")


async def test_what_is_said_before_a_tool_is_called_leaves_at_once(trillm, tools):
    body = asking(calls("weather__slow", say="Let me look."), stream=True)
    async with trillm.client.stream("POST", PATH, json=body) as reply:
        came = {}
        async for line in reply.aiter_lines():
            came.setdefault("look" if "look." in line else "text" if "Simulated" in line else None, trio.current_time())
    assert came["text"] - came["look"] > 0.2


async def test_calls_of_one_turn_run_at_the_same_time(trillm, tools, stream):
    began = trio.current_time()
    answer = await answered(trillm, asking(calls(*["weather__slow"] * 4), stream=stream))
    assert trio.current_time() - began < 1.1
    assert tools.most_running == 4
    assert answer["content"].count("A tool said: done") == 4


async def test_several_servers_are_asked_for(trillm, tools, stream):
    both = [mcp("weather", "now"), mcp("files")]
    answer = await answered(trillm, asking(calls("weather__now", "files__read"), tools=both, stream=stream))
    assert "A tool said: 21 degrees A tool said: a file" in answer["content"]


async def test_a_chat_that_only_mentions_mcp_is_like_any_other(trillm, tools):
    body = chat(messages=[{"role": "user", "content": "mcp"}], tools=[OWN])
    assert (await trillm.post(PATH, body)).status_code == 200
    assert tools.called == []


async def test_the_caller_is_told_who_answered_and_how_long_the_tools_took(trillm, tools):
    reply = await trillm.post(PATH, asking(calls("weather__slow")), x_request_id="mine-1")
    assert (reply.headers["x-request-id"], reply.headers["x-trillm-server"]) == ("mine-1", "one")
    timing = dict(part.split(";dur=") for part in reply.headers["server-timing"].split(", "))
    assert 300 <= float(timing["tools"]) < float(timing["total"])
    assert float(timing["queue"]) < 300
    assert len(reply.headers.get_list("server-timing")) == 1


async def test_it_counts_as_one_request_and_its_tokens_once(trillm, tools, stream):
    answer = await answered(trillm, asking(calls("weather__now"), stream=stream))
    metrics = (await trillm.client.get("/metrics")).text
    assert 'trillm_requests_total{operation="chat",outcome="ok",server="one",status="200"} 1.0' in metrics
    tokens = float(answer["usage"]["completion_tokens"])
    assert f'trillm_tokens_total{{direction="completion",operation="chat",server="one"}} {tokens}' in metrics
    assert 'trillm_tool_seconds_count{mcp_server="weather",outcome="ok"} 1.0' in metrics


# ── the caller's own tools ────────────────────────────────────────────────────────────────────────────────────────


async def test_calls_of_the_callers_own_tools_are_handed_back(trillm, tools, stream):
    turn = {"calls": [{"name": "mine", "arguments": {"a": "some text"}}, {"name": "mine", "arguments": "{broken"}]}
    answer = await answered(trillm, asking(calls("weather__now"), turn, tools=[OWN, mcp("weather")], stream=stream))
    assert (names(answer), answer["finish_reason"]) == (["mine", "mine"], "tool_calls")
    arguments = [call["function"]["arguments"] for call in answer["tool_calls"]]
    assert arguments == ['{"a":"some text"}', "{broken"]
    assert len({call["id"] for call in answer["tool_calls"]}) == 2
    assert len(tools.called) == 1


async def test_a_turn_that_mixes_both_hands_back_the_callers_calls_and_runs_none(trillm, tools, stream):
    mixed = calls("weather__now", "mine", "weather__echo", "mine", say="Both.")
    answer = await answered(trillm, asking(mixed, tools=[mcp("weather"), OWN], stream=stream))
    assert (names(answer), answer["finish_reason"], answer["content"]) == (["mine", "mine"], "tool_calls", "Both.")
    assert tools.called == []


async def test_the_openai_sdk_gets_one_clean_stream(trillm, tools):
    if trillm.url.startswith("https"):
        pytest.skip("the SDK is shown the plain port")

    def consume():
        body = asking(calls("weather__now"), calls("weather__echo", say="And"), stream=True)
        extra = {"x_sim": body.pop("x_sim")}
        with openai.OpenAI(base_url=f"{trillm.url}/v1", api_key="none") as client:
            return list(client.chat.completions.create(**body, extra_body=extra))

    chunks = await trio.to_thread.run_sync(consume)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert "A tool said: 21 degrees" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage.completion_tokens > 80


# ── what goes wrong with tools is told to the model ───────────────────────────────────────────────────────────────


FAILURES = {
    "it says so": (says("no such city", is_error=True), {}, "Error: no such city"),
    "its server is gone": (raises(UpstreamFailed("the server is gone")), {}, "Error: the server is gone"),
    "arguments that are no JSON": (echoes, {"arguments": "{broken"}, "Error: The arguments are no JSON object"),
    "arguments that are no object": (echoes, {"arguments": "[1]"}, "Error: The arguments are no JSON object"),
    "no arguments at all": (echoes, {"arguments": ""}, "A tool said: {} "),
    "a tool nobody offered": (echoes, {"name": "weather__nw"}, "Error: There is no tool 'weather__nw'."),
}


@pytest.mark.parametrize(("does", "call", "told"), FAILURES.values(), ids=FAILURES)
async def test_the_model_is_told(trillm, does, call, told, stream):
    trillm.gateway.tools = Tools({"weather": {"now": does}})
    turn = {"calls": [{"name": "weather__now"} | call]}
    answer = await answered(trillm, asking(turn, stream=stream))
    assert told in answer["content"]


async def test_a_defect_of_ours_is_no_result(trillm, stream):
    trillm.gateway.tools = Tools({"weather": {"now": raises(ZeroDivisionError())}})
    assert (await refused(trillm, asking(calls("weather__now"), stream=stream), 500))["code"] == "internal_error"


async def test_a_call_that_takes_too_long_is_cancelled_and_the_model_told(run_trillm, stream):
    document = {"tool_limits": {"call_s": 0.2}}
    async with run_trillm({"one": Sim()}, document=document) as trillm:
        tools = trillm.gateway.tools = Tools({"weather": {"now": says("", after_s=9)}})
        answer = await answered(trillm, asking(calls("weather__now"), stream=stream))
        assert "Error: The tool did not answer within" in answer["content"]
        assert tools.cancelled == 1


async def test_a_result_that_is_too_large_is_cut_off(run_trillm):
    document = {"tool_limits": {"result_bytes": 10}}
    async with run_trillm({"one": Sim()}, document=document) as trillm:
        trillm.gateway.tools = Tools({"weather": {"now": says("é" * 8)}})
        answer = await answered(trillm, asking(calls("weather__now"), stream=False))
        assert "A tool said: ééééé [cut off: 10 of 16 bytes]" in answer["content"]


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_model_that_never_stops_calling_must_answer_after_its_last_turn(run_trillm, stream):
    async with run_trillm({"one": Sim()}, document={"tool_limits": {"turns": 3}}) as trillm:
        tools = trillm.gateway.tools = Tools({"weather": WEATHER})
        answer = await answered(trillm, asking(calls("weather__now", times=99), stream=stream))
        assert answer["finish_reason"] == "stop"
        assert len(tools.called) == 3


@pytest.mark.parametrize("limited", ["by the operator", "by the caller"])
async def test_no_more_calls_are_run_than_allowed(run_trillm, stream, limited):
    document = {"tool_limits": {"calls": 3 if limited == "by the operator" else 50}}
    members = {"max_tool_calls": 3} if limited == "by the caller" else {}
    async with run_trillm({"one": Sim()}, document=document) as trillm:
        tools = trillm.gateway.tools = Tools({"weather": WEATHER})
        body = asking(calls(*["weather__now"] * 2, times=99), stream=stream, **members)
        answer = await answered(trillm, body)
        assert len(tools.called) == 3
        assert answer["content"].count("Error: Not run: only 1 more call") == 1


async def test_a_model_that_will_not_stop_ends_with_an_error(run_trillm, stream):
    async with run_trillm({"one": Sim()}, document={"tool_limits": {"turns": 2}}) as trillm:
        trillm.gateway.tools = Tools({"weather": WEATHER})
        error = await refused(trillm, asking(calls("weather__now", times=99, disobeys=True), stream=stream), 502)
        assert error["code"] == "tool_limit_exceeded"
        assert "2 turns" in error["message"]
        spoken = asking(calls("weather__now", times=99, disobeys=True, say="Hm."), stream=True)
        *content, error = events((await trillm.post(PATH, spoken)).text)
        assert error["error"]["code"] == "tool_limit_exceeded"
        assert "".join(c["choices"][0]["delta"]["content"] for c in content) == "Hm.\n\nHm.\n\nHm."


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather__now"}},
                                    {"type": "mcp", "server_label": "weather", "name": "now"}])  # fmt: skip
async def test_a_call_that_is_demanded_is_demanded_once(trillm, tools, choice, stream):
    answer = await answered(trillm, asking(tool_choice=choice, stream=stream))
    assert "A tool said: 21 degrees" in answer["content"]
    assert len(tools.called) == 1


# ── refused ───────────────────────────────────────────────────────────────────────────────────────────────────────


BAD = {
    "an unknown server": ([mcp("wether")], "'wether'. Did you mean 'weather'?"),
    "no server": ([{"type": "mcp", "require_approval": "never"}], "tools[0].server_label"),
    "a server without tools": ([OWN, mcp("empty")], "tools[1]: the MCP server 'empty' offers you no tools."),
    "an unknown tool": ([mcp("weather", "nwo")], "no tool 'nwo' for you. Did you mean 'now'?"),
    "no tool allowed": ([mcp("weather", allowed_tools=[])], "tools[0].allowed_tools"),
    "approval": ([mcp("weather", require_approval="always")], "tools[0].require_approval"),
    "approval by default": ([{"type": "mcp", "server_label": "weather"}], "tools[0].require_approval: it is missing"),
    "any server at all": ([mcp("x", server_url="http://evil.example/mcp")], "tools[0].server_url"),
    "a key for the server": ([mcp("weather", headers={"authorization": "x"})], "tools[0].headers"),
    "a connector": ([mcp("weather", connector_id="connector_gmail")], "tools[0].connector_id"),
    "a server twice": ([mcp("weather"), mcp("weather")], "tools[1]: the MCP server 'weather' is asked for twice"),
    "the wrong type": ([mcp("weather", allowed_tools=7)], "tools[0]: Expected"),
    "a name that is taken": (
        [mcp("weather"), {"type": "function", "function": {"name": "weather__now"}}], "'weather__now'"),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "says"), BAD.values(), ids=BAD)
async def test_what_cannot_be_done_is_refused(trillm, tools, asked, says, stream):
    error = await refused(trillm, asking(tools=asked, stream=stream))
    assert says in error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "tools")
    assert (await trillm.sim_stats("one"))["started"] == 0


@pytest.mark.parametrize(("member", "value"), [
    ("n", 2), ("max_tool_calls", 0), ("max_tool_calls", "x"),
    ("tool_choice", {"type": "mcp", "server_label": "weather"}),
])  # fmt: skip
async def test_members_that_do_not_go_with_tools_are_refused(trillm, tools, member, value):
    assert (await refused(trillm, asking(**{member: value})))["param"] == member


async def test_where_no_server_is_registered_asking_for_one_is_an_error(trillm):
    error = await refused(trillm, asking())
    assert error["code"] == "mcp_server_not_found"
    assert "None is registered" in error["message"]


@pytest.mark.parametrize("denied", ["weather", "weather/now"])
async def test_what_the_key_may_not_use_is_forbidden(trillm, tools, denied, stream):
    tools.denied = {denied}
    assert (await refused(trillm, asking(tools=[mcp("weather", "now")], stream=stream), 403))["code"] == "forbidden"


async def test_a_registered_server_may_be_named_by_its_url(trillm, tools):
    tools.urls = {"http://127.0.0.1:9/mcp": "weather"}
    body = asking(calls("weather__now"), tools=[mcp("mine", server_url="http://127.0.0.1:9/mcp")])
    answer = await answered(trillm, body, x_trillm_tool_steps="1")
    assert [step["server_label"] for step in answer["answer"]["trillm"]["tool_steps"]] == ["mine"]


async def test_a_server_that_is_down_fails_the_request_with_its_reason(trillm, tools, stream):
    tools.down = {"files": UpstreamFailed("files: connection refused")}
    error = await refused(trillm, asking(tools=[mcp("weather"), mcp("files")], stream=stream), 502)
    assert error["message"] == "files: connection refused"


# ── routes, steps ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_route_may_add_servers(run_trillm, stream):
    document = {
        "mcp_servers": {name: {"command": name} for name in ("weather", "files")},
        "routes": {"helper": {"to": ["one/sim-chat"], "mcp_servers": ["weather", "files"]}},
    }
    async with run_trillm({"one": Sim()}, document=document) as trillm:
        tools = trillm.gateway.tools = Tools({"weather": WEATHER, "files": {"read": says("a file")}})
        body = chat(model="helper", stream=stream, x_sim=turns(calls("weather__now", "files__read")))
        body["stream_options"] = {"include_usage": True} if stream else None
        assert "A tool said: a file" in (await answered(trillm, body))["content"]
        assert len(tools.called) == 2
        # What the request says of a server goes before what the route says.
        error = await refused(trillm, body | {"tools": [mcp("weather", "nwo")]})
        assert "nwo" in error["message"]


async def test_who_wants_to_sees_the_tools_that_run(trillm, tools, stream):
    tools.progress = [Progress(1, 2, "half"), Progress(2, 2)]
    turn = {"calls": [{"name": "weather__now", "arguments": {"city": "Ulm"}}, {"name": "weather__nwo"}]}
    answer = await answered(trillm, asking(turn, stream=stream), x_trillm_tool_steps="1")
    if stream:
        told = [step for chunk in answer["chunks"] for step in chunk.get("trillm", {}).get("tool_steps", ())]
        assert told[0]["status"] == "in_progress"
        assert any("progress" in step for step in told)
        steps = list({step["id"]: step for step in told}.values())
    else:
        steps = answer["answer"]["trillm"]["tool_steps"]
    good, bad = steps
    assert good | {"id": "", "seconds": 0} == {
        "id": "",
        "type": "mcp_call",
        "server_label": "weather",
        "name": "now",
        "arguments": '{"city":"Ulm"}',
        "status": "completed",
        "output": "21 degrees",
        "seconds": 0,
    }
    assert (bad["status"], bad["server_label"]) == ("failed", None)
    assert bad["error"].startswith("There is no tool")


async def test_who_does_not_sees_nothing_of_them(trillm, tools, stream):
    for headers in ({}, {"x_trillm_tool_steps": "0"}):
        reply = await trillm.post(PATH, asking(calls("weather__now"), stream=stream), **headers)
        assert "tool_steps" not in reply.text
        assert "weather__now" not in reply.text


# ── endings ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_budget_that_tools_spend_is_a_504_that_says_so(trillm, stream):
    tools = trillm.gateway.tools = Tools({"weather": {"now": says("", after_s=9)}})
    began = trio.current_time()
    error = await refused(trillm, asking(calls("weather__now"), stream=stream), 504, x_trillm_budget="0.4")
    assert (error["phase"], error["budget_s"]) == ("tools", 0.4)
    assert trio.current_time() - began < 1
    assert (tools.running, tools.cancelled) == (0, 1)


@pytest.mark.parametrize("fault", ["cut", "eof", "error"])
async def test_a_later_turn_that_breaks_ends_the_stream_with_an_error(trillm, tools, fault):
    body = asking(calls("weather__now", say="Hm."), {"fault": fault, "after": 3}, stream=True)
    *content, error = events((await trillm.post(PATH, body)).text)
    assert error["error"]["code"] == "upstream_failed"
    assert "[DONE]" not in content
    assert not any(chunk["choices"][0]["finish_reason"] for chunk in content)


@pytest.mark.parametrize("fault", ["500", "refuse", "429"])
async def test_a_later_turn_that_fails_before_anything_was_seen_is_an_http_error(trillm, tools, fault, stream):
    body = asking(calls("weather__now"), {"fault": fault}, stream=stream)
    reply = await trillm.post(PATH, body)
    assert reply.status_code in {429, 500, 502}
    assert reply.json()["error"]["message"]


async def test_a_later_turn_may_be_answered_by_another_server(run_trillm, stream):
    document = {"routes": {"r": {"to": ["one/sim-chat"], "fallback": ["two/sim-chat"]}}}
    async with run_trillm({"one": Sim(), "two": Sim()}, document=document) as trillm:
        trillm.gateway.tools = Tools({"weather": {"now": stops(trillm, "one")}})
        body = asking(calls("weather__now", say="Hm."), model="r", stream=stream)
        answer = await answered(trillm, body)
        assert answer["content"].startswith("Hm.\n\nSimulated answer")
        metrics = (await trillm.client.get("/metrics")).text
        for server in ("one", "two"):
            assert f'trillm_tokens_total{{direction="completion",operation="chat",server="{server}"}}' in metrics


def stops(trillm, server):
    """A tool during which a server is found to be down."""

    async def do(arguments):
        await trio.lowlevel.checkpoint()
        trillm.pool.probed(trillm.pool.members[server], UpstreamFailed("gone"))
        return "stopped"

    return do
