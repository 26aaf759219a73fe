"""Several streams become one."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import UpstreamFailed
from trillm.gateway.tools.merge import Merge
from trillm.gateway.tools.turn import ToolCall

DONE = b"data: [DONE]\n\n"


def frame(delta=None, finish_reason=None, ident="c1", usage=None, **choice):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason, **choice}]
    chunk = {"id": ident, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + msgspec.json.encode(chunk | ({"usage": usage} if usage else {})) + b"\n\n"


def call(name, ident="t1", index=0, arguments="{}"):
    return {"tool_calls": [{"index": index, "id": ident, "function": {"name": name, "arguments": arguments}}]}


def shown(data):
    events = [event.removeprefix(b"data: ") for event in data.split(b"\n\n") if event.startswith(b"data: ")]
    return [event.decode() if event == b"[DONE]" else json.loads(event) for event in events]


def deltas(data):
    return [chunk["choices"][0]["delta"] for chunk in shown(data) if chunk != "[DONE]" and chunk["choices"]]


ROLE, FINISH, CALLS = frame({"role": "assistant", "content": ""}), frame({}, "stop"), frame({}, "tool_calls")


def a_turn(merge, *frames):
    """Feed a turn that ends."""
    return merge.feed(b"".join(frames) + DONE)


def test_one_turn_comes_through_with_its_role_in_the_first_piece():
    merge = Merge(set())
    out = a_turn(merge, ROLE, frame({"content": "Hel"}), frame({"content": "lo"}), FINISH) + merge.end()
    assert deltas(out) == [{"role": "assistant", "content": "Hel"}, {"content": "lo"}, {}]
    assert [c["choices"][0]["finish_reason"] for c in shown(out)[:-1]] == [None, None, "stop"]
    assert shown(out)[-1] == "[DONE]"
    assert merge.turn().texts == {"content": "Hello"}


def test_calls_of_ours_and_their_end_stay_here():
    merge = Merge(set())
    assert a_turn(merge, ROLE, frame(call("a")), CALLS) == b""
    assert not merge.visible
    turn = merge.turn()
    assert (turn.calls, turn.finish_reason) == ((ToolCall("t1", "a", "{}"),), "tool_calls")


def test_turns_are_one_stream():
    merge = Merge(set())
    out = a_turn(merge, ROLE, frame({"content": "Hm."}), frame(call("a")), CALLS)
    merge.go_on()
    out += a_turn(merge, frame({"role": "assistant"}, ident="c2"), frame(call("a"), ident="c2"), CALLS)
    merge.go_on()
    out += a_turn(merge, frame({"role": "assistant", "content": "So"}, ident="c3"), frame({"content": "!"}), FINISH)
    out += merge.end()
    assert deltas(out) == [{"role": "assistant", "content": "Hm."}, {"content": "\n\nSo"}, {"content": "!"}, {}]
    assert {chunk["id"] for chunk in shown(out)[:-1]} == {"c1"}
    assert out.count(DONE) == 1


def test_reasoning_is_set_apart_like_text():
    merge = Merge(set())
    out = b""
    for last in (False, True):
        out += a_turn(
            merge, frame({"reasoning": "r"}), frame({"reasoning_content": "s"}), *[frame(call("a"))] * (not last)
        )
        if not last:
            assert merge.turn().texts == {"reasoning": "r", "reasoning_content": "s"}
            merge.go_on()
    assert [list(delta.items())[-1] for delta in deltas(out)] == [
        ("reasoning", "r"), ("reasoning_content", "s"), ("reasoning", "\n\nr"), ("reasoning_content", "\n\ns"),
    ]  # fmt: skip


def test_the_callers_calls_come_through_at_once():
    merge = Merge({"mine"})
    out = merge.feed(frame(call("a")) + frame(call("mine", "t2", 1, "")))
    out += merge.feed(frame({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}))
    assert [delta["tool_calls"][0]["index"] for delta in deltas(out)] == [0, 0]
    a_turn(merge, CALLS)
    assert merge.turn().hands_back
    assert shown(merge.end())[0]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_piece_that_has_the_end_in_it_is_split():
    merge = Merge(set())
    out = a_turn(merge, frame({"content": "all"}, "stop", logprobs={"x": 1}))
    assert deltas(out) == [{"role": "assistant", "content": "all"}]
    assert shown(out)[0]["choices"][0]["finish_reason"] is None
    end = shown(merge.end())
    assert end[0]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": {"x": 1}}]


def test_an_answer_without_a_word_has_a_role_and_an_end():
    merge = Merge(set())
    assert a_turn(merge, ROLE, FINISH) == b""
    assert shown(merge.end())[0]["choices"][0] == {
        "index": 0, "delta": {"role": "assistant"}, "finish_reason": "stop"}  # fmt: skip


def test_a_server_that_says_done_and_no_reason_is_passed_on_like_that():
    merge = Merge(set())
    a_turn(merge, frame({"content": "x"}))
    assert merge.end() == DONE


def test_usage_is_that_of_all_turns():
    merge = Merge(set())
    a_turn(merge, frame(call("a")), CALLS, frame(usage={"prompt_tokens": 5, "completion_tokens": 2}))
    merge.go_on()
    continuous = frame({"content": "x"}, usage={"prompt_tokens": 7, "completion_tokens": 1})
    out = a_turn(merge, continuous, FINISH, frame(usage={"prompt_tokens": 7, "completion_tokens": 3}))
    assert shown(out)[0]["usage"] == {"prompt_tokens": 12, "completion_tokens": 3}
    assert shown(merge.end())[-2]["usage"] == {"prompt_tokens": 12, "completion_tokens": 5}


def test_keep_alives_come_through_once_something_was_seen():
    merge = Merge(set())
    assert merge.feed(b": ping\n\n") == b""
    merge.feed(frame({"content": "x"}))
    assert merge.feed(b": ping\n\n") == b": \n\n"


def test_a_frame_of_another_shape_comes_through():
    merge = Merge(set())
    assert merge.feed(b'data: {"progress":1}\n\n') == b'data: {"progress":1}\n\n'
    assert deltas(merge.feed(frame({"content": "x"}))) == [{"role": "assistant", "content": "x"}]


def test_frames_of_trillms_own_have_the_streams_id():
    merge = Merge(set())
    merge.feed(frame(call("a")))
    [chunk] = shown(merge.about(tool_steps=[1]))
    assert chunk == {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
                     "trillm": {"tool_steps": [1]}}  # fmt: skip


@pytest.mark.parametrize("bad", [
    b'data: {"choices":[7]}\n\n', b'data: {"choices":[{"delta":7}]}\n\n',
    b'data: {"choices":[{"delta":{"tool_calls":[7]}}]}\n\n', b'data: {"choices":{}}\n\n',
])  # fmt: skip
def test_what_is_no_chat_completion_is_the_servers_failure(bad):
    with pytest.raises(UpstreamFailed, match="no chat completion"):
        Merge(set()).feed(bad)


STREAM = b"".join([
    ROLE, frame({"content": "Hä"}), b": \n\n", frame(call("a")), frame(call("mine", "t2", 1)), frame({"content": "lo"}),
    frame({}, "tool_calls"), frame(usage={"prompt_tokens": 5}), DONE,
])  # fmt: skip


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_it_does_not_matter_how_the_bytes_come(cuts):
    at_once, piecewise = Merge({"mine"}), Merge({"mine"})
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [piecewise.feed(STREAM[a:b]) for a, b in itertools.pairwise(edges)]
    assert b"".join(pieces) == at_once.feed(STREAM)
    assert piecewise.turn() == at_once.turn()
    assert piecewise.end() == at_once.end()
