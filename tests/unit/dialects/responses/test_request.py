"""Responses requests as chat completions."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.dialects.responses.request import to_chat
from trillm.errors import BadRequest


def chat(given_, **members):
    return json.loads(to_chat(json.dumps({"model": "asked-for", "input": given_, **members}).encode(), "theirs"))


def said(role, *parts):
    return {"type": "message", "role": role, "content": list(parts)}


def words(text):
    return {"type": "input_text", "text": text}


def called(call_id, name="f", arguments="{}"):
    return {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": name, "arguments": arguments}


def a_call(call_id, name="f", arguments="{}"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_the_smallest_request():
    assert chat("hi") == {"model": "theirs", "messages": [{"role": "user", "content": "hi"}]}


CONVERSATIONS = {
    "a message without a type": ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
    "one part of words": ([said("user", words("hi"))], [{"role": "user", "content": "hi"}]),
    "words and an image": (
        [said("user", words("see"), {"type": "input_image", "image_url": "data:x", "detail": "low"})],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
                ],
            }
        ],
    ),
    "a file and sound": (
        [
            said(
                "user",
                {"type": "input_file", "file_data": "data:y", "filename": "a.pdf"},
                {"type": "input_audio", "input_audio": {"data": "z", "format": "wav"}},
            )
        ],
        [
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"file_data": "data:y", "filename": "a.pdf"}},
                    {"type": "input_audio", "input_audio": {"data": "z", "format": "wav"}},
                ],
            }
        ],
    ),
    "a developer is the system": (
        [said("developer", words("be")), said("user", words("hi"))],
        [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}],
    ),
    "thought, said and called in one turn": (
        [
            said("user", words("go")),
            {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            said("assistant", {"type": "output_text", "text": "look", "annotations": []}),
            called("c1", arguments='{"a":1}'),
            called("c2", "g"),
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "function_call_output", "call_id": "c2", "output": [words("two")]},
            said("user", words("so?")),
        ],
        [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": "look",
                "reasoning_content": "hm",
                "tool_calls": [a_call("c1", arguments='{"a":1}'), a_call("c2", "g")],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": "two"},
            {"role": "user", "content": "so?"},
        ],
    ),
    "a call alone": (
        [called("c1")],
        [{"role": "assistant", "content": None, "tool_calls": [a_call("c1")]}],
    ),
    "two answers in a row are two": (
        [
            said("assistant", {"type": "output_text", "text": "a"}),
            said("assistant", {"type": "output_text", "text": "b"}),
        ],
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
    ),
    "an answer after calls is another": (
        [called("c1"), said("assistant", {"type": "output_text", "text": "b"})],
        [{"role": "assistant", "content": None, "tool_calls": [a_call("c1")]}, {"role": "assistant", "content": "b"}],
    ),
    "a summary where the thoughts are not told": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "in short"}], "encrypted_content": "x"}],
        [{"role": "assistant", "reasoning_content": "in short", "content": ""}],
    ),
    "a refusal": (
        [said("assistant", {"type": "refusal", "refusal": "no"})],
        [{"role": "assistant", "content": "no"}],
    ),
    "an image in an output is shown after it": (
        [
            {
                "type": "function_call_output",
                "call_id": "c",
                "output": [words("see"), {"type": "input_image", "image_url": "data:x"}],
            }
        ],
        [
            {"role": "tool", "tool_call_id": "c", "content": "see"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
        ],
    ),
}


@pytest.mark.parametrize(("given_", "expected"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_conversations(given_, expected):
    assert chat(given_)["messages"] == expected


def test_what_is_said_before_the_beginning_is_one_system_message():
    told = chat(
        [said("system", words("a")), said("developer", words("b")), said("user", words("hi"))], instructions="i"
    )
    assert told["messages"] == [{"role": "system", "content": "i\n\na\n\nb"}, {"role": "user", "content": "hi"}]


FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
NESTED = {
    "type": "function",
    "function": {"name": "f", "description": "d", "strict": True, "parameters": {"type": "object"}},
}
SCHEMA = {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": True}
MEMBERS = {
    "length": ({"max_output_tokens": 9}, {"max_tokens": 9}),
    "sampling": ({"temperature": 0.5, "top_p": 0.1}, {"temperature": 0.5, "top_p": 0.1}),
    "a server's own settings": ({"min_p": 0.1}, {"min_p": 0.1}),
    "effort": ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    "a stream is counted": (
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"stream": True, "stream_options": {"include_usage": True}},
    ),
    "what has no place there": ({"store": True, "truncation": "auto", "metadata": {"a": "b"}, "max_tool_calls": 3}, {}),
    "null": ({"previous_response_id": None, "conversation": None, "background": None, "tools": None, "text": None}, {}),
    "not in the background": ({"background": False}, {}),
    "logprobs": ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
    "logprobs by include": ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
    "words": ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
    "JSON": ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    "a schema": (
        {"text": {"format": SCHEMA}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"a": 1}}}},
    ),
    "functions": ({"tools": [FUNCTION]}, {"tools": [NESTED]}),
    "no choice": ({"tools": [FUNCTION], "tool_choice": "required"}, {"tools": [NESTED], "tool_choice": "required"}),
    "one function": (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [NESTED], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    ),
    "some functions": (
        {
            "tools": [FUNCTION, {"type": "function", "name": "g"}],
            "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
        },
        {"tools": [{"type": "function", "function": {"name": "g"}}], "tool_choice": "required"},
    ),
}


@pytest.mark.parametrize(("given_", "expected"), MEMBERS.values(), ids=MEMBERS.keys())
def test_members(given_, expected):
    assert chat("hi", **given_) == chat("hi") | expected


REFUSED = {
    "no input": ({}, None),
    "input of another type": ({"input": 3}, "input"),
    "an earlier response": ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
    "a conversation": ({"input": "x", "conversation": {"id": "c"}}, "conversation"),
    "work in the background": ({"input": "x", "background": True}, "background"),
    "a kept prompt": ({"input": "x", "prompt": {"id": "p"}}, "prompt"),
    "an item by reference": ({"input": [{"type": "item_reference", "id": "i"}]}, "input[0]"),
    "an item of another kind": ({"input": [{"type": "computer_call"}]}, "input[0].type"),
    "an unknown role": ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    "no content": ({"input": [{"role": "user"}]}, "input[0].content"),
    "an unknown part": ({"input": [said("user", {"type": "video"})]}, "input[0].content[0].type"),
    "an image by its id": ({"input": [said("user", {"type": "input_image", "file_id": "f"})]}, "input[0].content[0]"),
    "a file by its address": (
        {"input": [said("user", {"type": "input_file", "file_url": "https://x.example"})]},
        "input[0].content[0]",
    ),
    "a call without an id": ({"input": [{"type": "function_call", "name": "f"}]}, "input[0]"),
    "an output without an id": ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    "a server's tool": ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
    "a function without a name": ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
    "an unknown format": ({"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
    "a choice that is not on offer": (
        {"input": "x", "tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice",
    ),
}


@pytest.mark.parametrize(("body", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_said_is_refused_with_its_place(body, param):
    with pytest.raises(BadRequest) as caught:
        to_chat(json.dumps({"model": "m", **body}).encode(), "m")
    assert caught.value.param == param


scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
parts = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["input_text", "output_text", "refusal", "input_image", "input_file", "input_audio", "x"]
        )
    },
    optional=dict.fromkeys(("text", "refusal", "image_url", "file_id", "file_data", "input_audio"), anything),
)
contents = st.text(max_size=5) | st.lists(parts, max_size=3) | anything
entries = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["message", "function_call", "function_call_output", "reasoning", "item_reference", "x"]
        ),
        "role": st.sampled_from(["user", "assistant", "system", "developer", "tool"]),
        "content": contents,
        "output": contents,
        **dict.fromkeys(("call_id", "name", "arguments", "summary", "id"), anything),
    },
)
OTHERS = ("instructions", "tools", "tool_choice", "text", "reasoning", "include", "stream", "background", "metadata")
fields = st.fixed_dictionaries(
    {"input": st.lists(entries, max_size=4) | anything}, optional=dict.fromkeys(OTHERS, anything)
)


@given(fields)
def test_any_request_becomes_a_chat_or_is_refused(body):
    with contextlib.suppress(BadRequest):
        told = json.loads(to_chat(json.dumps(body).encode(), "m"))
        assert told["model"] == "m"
        assert all("content" in message for message in told["messages"])


@given(st.binary())
def test_no_bytes_break_it(body):
    with contextlib.suppress(BadRequest):
        to_chat(body, "m")
