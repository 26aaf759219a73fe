"""A request for a response as a chat that still has its MCP tools, and a chat in which tools ran as a response."""

import json

import pytest
from support.tools import Tools, mcp

from trillm.errors import BadRequest, UpstreamFailed
from trillm.gateway.tools.asked import read_asked
from trillm.gateway.tools.mcpitems import ToolResponseStream
from trillm.gateway.tools.offer import Offered
from trillm.gateway.tools.responses import chat_of
from trillm.gateway.tools.source import Tool
from trillm.sse import Scanner

FUNCTION = {"type": "function", "name": "own", "parameters": {"type": "object"}}
TOLD = {"type": "function", "function": {"name": "own", "parameters": {"type": "object"}}}


def chat(**members):
    body = {"model": "public", "input": "Hi", **members}
    return json.loads(chat_of(json.dumps(body).encode(), "m"))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"tools": [mcp("a")]}, {"tools": [mcp("a")]}),
        ({"tools": [mcp("a"), FUNCTION, mcp("b")]}, {"tools": [mcp("a"), TOLD, mcp("b")]}),
        ({"tools": [mcp("a")], "tool_choice": "required"}, {"tools": [mcp("a")], "tool_choice": "required"}),
        (
            {"tools": [FUNCTION, mcp("a")], "tool_choice": {"type": "function", "name": "own"}},
            {"tools": [TOLD, mcp("a")], "tool_choice": {"type": "function", "function": {"name": "own"}}},
        ),
        (
            {"tools": [FUNCTION, mcp("a")], "tool_choice": {"type": "mcp", "server_label": "a", "name": "t"}},
            {"tools": [TOLD, mcp("a")], "tool_choice": {"type": "mcp", "server_label": "a", "name": "t"}},
        ),
        ({"tools": [mcp("a")], "max_tool_calls": 3}, {"tools": [mcp("a")], "max_tool_calls": 3}),
        ({}, {}),
    ],
)
def test_mcp_tools_stay_where_they_were_and_all_else_is_translated(asked, told):
    assert chat(**asked) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **told}


def test_where_an_entry_is_wrong_is_said_by_its_place_in_the_request():
    body = json.dumps(chat(tools=[FUNCTION, mcp("a", require_approval="always")])).encode()
    with pytest.raises(BadRequest, match=r"tools\[1\]\.require_approval"):
        read_asked(body, (), Tools({}))


@pytest.mark.parametrize("choice", [{"type": "function", "name": "x"}, "some"])
def test_a_choice_of_what_is_not_there_is_refused(choice):
    with pytest.raises(BadRequest, match="tool_choice: must be"):
        chat(tools=[mcp("a")], tool_choice=choice)


def test_calls_of_earlier_responses_are_calls_and_results_and_lists_are_nothing():
    ran = {"type": "mcp_call", "id": "mcp_1", "server_label": "a b", "name": "t", "arguments": "{}"}
    failure = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "no"}]}
    items = [
        {"role": "user", "content": "Hi"},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "a b", "tools": []},
        {**ran, "output": "5", "error": None},
        {**ran, "id": "mcp_2", "output": None, "error": failure},
    ]
    _, first, said, second, failed = chat(input=items)["messages"]
    assert [call["function"]["name"] for turn in (first, second) for call in turn["tool_calls"]] == ["a_b__t"] * 2
    assert said == {"role": "tool", "tool_call_id": "mcp_1", "content": "5"}
    assert failed == {"role": "tool", "tool_call_id": "mcp_2", "content": "Error: no"}


def frames(*chunks):
    identity = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    stream = b"".join(b"data: " + json.dumps(identity | chunk).encode() + b"\n\n" for chunk in chunks)
    return Scanner().feed(stream)


def text(said, reason=None):
    return {"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": reason}]}


def steps(*told):
    return {"choices": [], "trillm": {"tool_steps": list(told)}}


def step(status, name="c1", **members):
    about = {"id": name, "type": "mcp_call", "server_label": "a", "name": "t", "arguments": "{}", "status": status}
    return about | members


def events(told):
    return [json.loads(line[6:]) for line in told.decode().splitlines() if line.startswith("data: ")]


def a_stream():
    return ToolResponseStream(b'{"model":"m","input":"Hi"}', lambda: {"a__t": Offered("a", "a", Tool("t"))})


def test_text_calls_and_text_are_items_in_the_order_in_which_they_began():
    stream = a_stream()
    chunks = frames(
        text("Let me look."),
        steps(step("in_progress", "c1"), step("in_progress", "c2")),
        steps(step("failed", "c2", error="no")),
        steps(step("completed", "c1", output="5")),
        text("\n\nIt is 5.", "stop"),
    )
    told = events(b"".join(stream.feed(frame) for frame in chunks) + stream.finish())
    output = told[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["mcp_list_tools", "message", "mcp_call", "mcp_call", "message"]
    assert [item["status"] for item in output[2:4]] == ["completed", "failed"]
    assert output[4]["content"][0]["text"] == "It is 5."
    done = {e["output_index"]: e["item"] for e in told if e["type"] == "response.output_item.done"}
    assert [done[at] for at in range(5)] == output
    assert len({item["id"] for item in output}) == 5


def test_a_stream_that_fails_while_a_tool_runs_says_what_was_not_finished():
    stream = a_stream()
    told = b"".join(stream.feed(frame) for frame in frames(steps(step("in_progress"))))
    last = events(told + stream.fail(UpstreamFailed("gone")))[-1]
    assert last["type"] == "response.failed"
    assert [item.get("status") for item in last["response"]["output"]] == [None, "incomplete"]
