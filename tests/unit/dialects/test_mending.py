"""What servers leave out of chat completions is filled in; what is right stays byte for byte."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dialects import DONE, call, chunk

from trillm.dialects.mending import Mender, counted, mended, only_counts, renamed_thoughts


def reply(*choices, **members):
    return json.dumps({"id": "x", "choices": list(choices), **members}).encode()


def choice(index=0, **message):
    return {"index": index, "message": {"role": "assistant", **message}, "finish_reason": "stop"}


WHOLE = {"content": "Hi", "refusal": None}


# ── whole replies ───────────────────────────────────────────────────────────────────────────────────────────────


def test_required_keys_are_filled_in_for_every_choice():
    told = json.loads(mended(reply(choice(content="a"), choice(1, content="b"), usage={"x": 1.50})))
    assert [one["logprobs"] for one in told["choices"]] == [None, None]
    assert [one["message"]["refusal"] for one in told["choices"]] == [None, None]
    assert told["usage"] == {"x": 1.50}


def test_what_is_there_stays():
    told = json.loads(mended(reply(choice(content="a", refusal="no") | {"logprobs": {"content": []}}, choice(1))))
    assert told["choices"][0]["message"]["refusal"] == "no"
    assert told["choices"][0]["logprobs"] == {"content": []}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_are_told_under_both_names(name):
    message = json.loads(mended(reply(choice(content="a", **{name: "hm"}))))["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"]) == ("hm", "hm")


def test_a_reply_that_needs_nothing_is_not_touched():
    body = reply(choice(**WHOLE) | {"logprobs": None})
    assert mended(body) is body


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"choices":3}', b'{"choices":[3]}', b'{"choices":[{}]}', b"\xff"]
)
def test_what_is_no_chat_completion_is_not_touched(body):
    assert mended(body) is body


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────────


def delta(frame):
    return json.loads(frame.removeprefix(b"data: "))["choices"][0]["delta"]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("thought", ["hm", 'he said "hm\\', "", '\n{,"reasoning":"x"}'])
def test_a_frame_with_thoughts_tells_them_under_both_names(name, thought):
    told = delta(Mender().mend(chunk({"role": "assistant", name: thought, "content": None})))
    assert told == {"role": "assistant", "content": None, "reasoning": thought, "reasoning_content": thought}


@pytest.mark.parametrize(
    "frame",
    [
        chunk({"content": 'the key "reasoning": "x"'}),
        chunk({"reasoning": "a", "reasoning_content": "a"}),
        chunk({"reasoning": None, "content": "x"}),
        chunk(call(0, "{", call_id="c", name="f")),
        chunk({}, "stop"),
        DONE,
        b'data: {"tool_calls"\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":3}}]}\n\n',
    ],
)
def test_a_frame_that_needs_nothing_is_not_touched(frame):
    assert Mender().mend(frame) == frame


def test_calls_without_an_index_are_numbered():
    mender = Mender()
    frames = [call(None, "{", call_id="a", name="f"), call(None, "}"), call(None, "{}", call_id="b", name="g")]
    told = [delta(mender.mend(chunk(frame)))["tool_calls"][0] for frame in frames]
    assert [piece["index"] for piece in told] == [0, 0, 1]
    assert [piece["function"]["arguments"] for piece in told] == ["{", "}", "{}"]
    assert told[2]["id"] == "b"


def test_calls_that_are_all_number_0_are_numbered_by_their_ids():
    mender = Mender()
    frames = [call(0, "{}", call_id="a", name="f"), call(0, "{}", call_id="b", name="f")]
    assert [delta(mender.mend(chunk(frame)))["tool_calls"][0]["index"] for frame in frames] == [0, 1]


def test_each_choice_has_its_own_calls():
    mender = Mender()
    piece = call(None, "{}", call_id="a", name="f")
    frame = chunk(choices=[{"index": 0, "delta": piece}, {"index": 1, "delta": piece}])
    told = json.loads(mender.mend(frame)[5:])["choices"]
    assert [one["delta"]["tool_calls"][0]["index"] for one in told] == [0, 0]


@given(st.text(), st.sampled_from(["reasoning", "reasoning_content"]))
def test_any_thought_survives(thought, name):
    for ascii_only in (True, False):
        body = json.dumps({"choices": [{"delta": {name: thought}}]}, ensure_ascii=ascii_only)
        frame = b"data: " + body.encode("utf-8", "replace") + b"\n\n"
        told = delta(Mender().mend(frame))
        assert told["reasoning"] == told["reasoning_content"] == delta(frame)[name]


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "other"), [("reasoning", "reasoning_content"), ("reasoning_content", "reasoning")])
def test_thoughts_are_renamed_in_messages_and_nowhere_else(name, other):
    body = {
        "reasoning": {"effort": "low"},
        "messages": [{"role": "assistant", "content": "x", other: "hm"}, {"role": "user"}],
    }
    told = json.loads(renamed_thoughts(json.dumps(body).encode(), name))
    assert told["messages"] == [{"role": "assistant", "content": "x", name: "hm"}, {"role": "user"}]
    assert told["reasoning"] == {"effort": "low"}


@pytest.mark.parametrize("body", [b"{}", b'{"messages":[{"reasoning":"x"}]}', b'{"messages":"reasoning_content"}'])
def test_a_request_without_them_is_not_touched(body):
    assert renamed_thoughts(body, "reasoning") is body


@pytest.mark.parametrize("body", [b'{"model":"m"}', b' {\n "model" : "m", "stream": true }'])
def test_a_stream_can_be_asked_to_count(body):
    assert msgspec.json.decode(counted(body)) == msgspec.json.decode(body) | {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("frame", "alone"),
    [
        (b'data: {"choices":[],"usage":{}}\n\n', True),
        (b'data: {"choices": [ ], "usage":{}}\n\n', True),
        (b'data: {"choices":[{"delta":{"content":"\\"choices\\":[]"}}],"usage":{}}\n\n', False),
        (b'data: {"usage":{}}\n\n', False),
    ],
)
def test_frames_that_only_count_are_told_from_others(frame, alone):
    assert only_counts(frame) is alone
