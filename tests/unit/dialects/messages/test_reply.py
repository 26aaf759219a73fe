"""Chat completions as Anthropic messages."""

import json

import pytest
from support.dialects import DONE, USAGE, call, chunk, events, retold

from trillm.dialects.messages.reply import MessageStream, from_chat
from trillm.errors import UpstreamFailed
from trillm.sse import Frame, Kind

COUNTED = {"input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": 4}
UNCOUNTED = dict.fromkeys(COUNTED, 0)


def message(finish="stop", *, choice=None, **said):
    body = {
        "id": "chatcmpl-1",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish, **(choice or {})}],
        "usage": json.loads(USAGE[5:])["usage"],
    }
    return json.loads(from_chat(json.dumps(body).encode()))


def test_a_whole_answer():
    assert message(content="Hello") == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": COUNTED,
    }


def a_call(call_id, arguments):
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ({"content": None}, []),
        ({"content": ""}, []),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, [{"type": "text", "text": "ab"}]),
        (
            {"content": "b", "reasoning_content": "a"},
            [{"type": "thinking", "thinking": "a", "signature": ""}, {"type": "text", "text": "b"}],
        ),
        ({"reasoning": "a", "content": None}, [{"type": "thinking", "thinking": "a", "signature": ""}]),
        ({"reasoning": "a", "reasoning_content": "a"}, [{"type": "thinking", "thinking": "a", "signature": ""}]),
        ({"refusal": "no"}, [{"type": "text", "text": "no"}]),
        (
            {"tool_calls": [a_call("c1", '{"a":1}'), a_call("c2", ""), a_call(None, {"b": 2})]},
            [
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
                {"type": "tool_use", "id": "call_1_2", "name": "f", "input": {"b": 2}},
            ],
        ),
    ],
)
def test_blocks(said, content):
    assert message(**said)["content"] == content


REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    None: "end_turn",
    "odd": "end_turn",
}


@pytest.mark.parametrize(("finish", "reason"), REASONS.items())
def test_why_it_ended(finish, reason):
    assert message(finish, content="x")["stop_reason"] == reason
    assert retold(MessageStream(), chunk({"content": "x"}, finish), DONE)[-2][1]["delta"]["stop_reason"] == reason


def test_calls_end_it_even_where_the_server_says_stop():
    assert message("stop", tool_calls=[a_call("c", "{}")])["stop_reason"] == "tool_use"
    assert (
        retold(MessageStream(), chunk(call(0, "{}", call_id="c", name="f")), chunk({}, "stop"), DONE)[-2][1]["delta"][
            "stop_reason"
        ]
        == "tool_use"
    )


def test_the_stop_sequence_is_named_where_the_server_tells():
    ended = message(content="x", choice={"stop_reason": "END"})
    assert (ended["stop_reason"], ended["stop_sequence"]) == ("stop_sequence", "END")


def test_arguments_that_were_cut_are_none():
    assert message("length", tool_calls=[a_call("c", '{"a":')])["content"][0]["input"] == {}


@pytest.mark.parametrize("arguments", ['{"a":', "[]", "nonsense"])
def test_arguments_that_are_no_object_are_the_servers_failure(arguments):
    with pytest.raises(UpstreamFailed, match="arguments"):
        message("tool_calls", tool_calls=[a_call("c", arguments)])


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":3}', b"<html>", b"\xff"])
def test_what_is_no_chat_completion_is_the_servers_failure(body):
    with pytest.raises(UpstreamFailed, match="chat completion"):
        from_chat(body)


def test_a_stream_of_text():
    stream = retold(
        MessageStream(),
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        USAGE,
        DONE,
    )
    assert stream == [
        ("message_start", {"message": {**message(content=None), "stop_reason": None, "usage": UNCOUNTED}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hel"}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "lo"}}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": COUNTED}),
        ("message_stop", {}),
    ]


def names(stream):
    """The events without their values; deltas as what they add."""
    return [
        value["delta"].get("text") or value["delta"].get("thinking") or value["delta"].get("partial_json")
        if name == "content_block_delta"
        else name
        for name, value in stream
    ]


def test_thoughts_text_and_calls_follow_each_other():
    stream = retold(
        MessageStream(),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "so"}),
        chunk(call(0, '{"a":', call_id="c1", name="f")),
        chunk(call(0, "1}")),
        chunk(call(1, "{}", call_id="c2", name="g")),
        chunk({}, "tool_calls"),
        DONE,
    )
    start, stop = "content_block_start", "content_block_stop"
    blocks = [start, "hm", stop, start, "so", stop, start, '{"a":', "1}", stop, start, "{}", stop]
    assert names(stream) == ["message_start", *blocks, "message_delta", "message_stop"]
    begun = [value["content_block"] for name, value in stream if name == start]
    assert [block["type"] for block in begun] == ["thinking", "text", "tool_use", "tool_use"]
    assert begun[2] == {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
    assert [value["index"] for name, value in stream if name == stop] == [0, 1, 2, 3]


def test_calls_whose_pieces_are_mixed_are_told_one_after_the_other():
    stream = retold(
        MessageStream(),
        chunk(call(0, '{"a":', call_id="c1", name="f")),
        chunk(call(1, '{"b":', call_id="c2", name="g")),
        chunk(call(0, "1}")),
        chunk(call(1, "2}")),
        chunk({}, "tool_calls"),
        DONE,
    )
    told = {}
    for name, value in stream:
        if name == "content_block_delta":
            told[value["index"]] = told.get(value["index"], "") + value["delta"]["partial_json"]
    assert told == {0: '{"a":1}', 1: '{"b":2}'}
    opened = [name for name, _ in stream if name in {"content_block_start", "content_block_stop"}]
    assert opened == ["content_block_start", "content_block_stop"] * 2


def test_a_call_that_goes_on_after_its_end_is_the_servers_failure():
    machine = MessageStream()
    retold(machine, chunk(call(0, "{}", call_id="c1", name="f")), chunk(call(1, "{}", call_id="c2", name="g")))
    with pytest.raises(UpstreamFailed, match="was over"):
        retold(machine, chunk(call(0, "more")))


def test_nothing_but_a_finish_is_an_empty_message():
    assert names(retold(MessageStream(), chunk({}, "stop"), DONE)) == ["message_start", "message_delta", "message_stop"]


def test_only_the_first_choice_is_told():
    other = chunk(choices=[{"index": 1, "delta": {"content": "other"}}])
    assert names(retold(MessageStream(), other)) == ["message_start"]


def test_keep_alives_pass():
    assert MessageStream().feed(Frame(Kind.COMMENT, b": \n\n")) == b": \n\n"


def test_an_end_without_done_is_told_by_finish():
    machine = MessageStream()
    retold(machine, chunk({"content": "x"}), chunk({}, "stop"))
    assert names(events(machine.finish())) == ["message_delta", "message_stop"]


def test_there_is_one_ending():
    machine = MessageStream()
    retold(machine, chunk({"content": "x"}), chunk({}, "stop"), DONE)
    assert machine.finish() == b""
    assert machine.fail(UpstreamFailed("late")) == b""


def test_an_error_is_the_last_event():
    machine = MessageStream()
    retold(machine, chunk({"content": "x"}))
    [(name, value)] = events(machine.fail(UpstreamFailed("it broke")))
    assert (name, value["error"]["type"], value["error"]["message"]) == ("error", "api_error", "it broke")
    assert machine.finish() == b""


def test_what_is_no_chunk_is_the_servers_failure():
    with pytest.raises(UpstreamFailed, match="no chunk"):
        MessageStream().feed(Frame(Kind.CONTENT, b'data: {"choices":3}\n\n'))
