"""What a whole answer says, and what of it the next turn is told."""

import json

import msgspec
import pytest

from trillm.errors import UpstreamFailed
from trillm.gateway.tools.turn import ToolCall, Turn, callers_calls, read_turn


def called(name, arguments="{}", ident="c1", **members):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}} | members


CUSTOM = {"id": "c9", "type": "custom", "custom": {"name": "sql", "input": "x"}}


def answer(finish_reason="tool_calls", **message):
    return json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}]}).encode()


READ = [
    (answer("stop", content="Hi"), Turn({"content": "Hi"}, finish_reason="stop")),
    (answer(content=None, tool_calls=[called("a")]),
     Turn({}, (ToolCall("c1", "a", "{}"),), finish_reason="tool_calls")),
    (answer("stop", content="", tool_calls=[called("a", {"x": 1})]),
     Turn({}, (ToolCall("c1", "a", '{"x":1}'),), finish_reason="stop")),
    (answer(tool_calls=[called("mine"), called("a", None), CUSTOM]),
     Turn({}, (ToolCall("c1", "a", ""),), hands_back=True, finish_reason="tool_calls")),
    (answer(tool_calls=[{"type": "function", "function": {}}, {}]),
     Turn({}, (ToolCall("", "", ""), ToolCall("", "", "")), finish_reason="tool_calls")),
    (answer(reasoning="r", reasoning_content="s", content=[{"type": "text"}]),
     Turn({"reasoning": "r", "reasoning_content": "s"}, finish_reason="tool_calls")),
    (b"{}", Turn()), (b'{"choices":[]}', Turn()), (b'{"choices":[{"message":null}]}', Turn()),
]  # fmt: skip


@pytest.mark.parametrize(("body", "turn"), READ)
def test_a_whole_answer_is_read(body, turn):
    assert read_turn(body, {"mine"}) == turn


@pytest.mark.parametrize("body", [
    b'{"choices":{}}', b'{"choices":[{"message":7}]}', answer(tool_calls=[7]), answer(tool_calls=[called(7)]),
])  # fmt: skip
def test_what_is_no_chat_completion_is_the_servers_failure(body):
    with pytest.raises(UpstreamFailed, match="no chat completion"):
        read_turn(body, ())


def test_the_next_turn_is_told_what_was_said_and_called():
    turn = Turn({"content": "Hm.", "reasoning": "r"}, (ToolCall("c1", "a", '{"x": 1}'), ToolCall("c2", "b", "{broken")))
    assert turn.message() == {
        "role": "assistant",
        "content": "Hm.",
        "reasoning": "r",
        "tool_calls": [called("a", '{"x": 1}'), called("b", "{}", "c2")],
    }
    assert Turn({}, (ToolCall("c1", "a", ""),)).message() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [called("a")],
    }


def test_the_callers_calls_are_found_as_they_came():
    raws = [msgspec.Raw(json.dumps(call).encode()) for call in (called("a"), called("mine", x=1), CUSTOM)]
    assert callers_calls(raws, {"mine"}) == raws[1:]
