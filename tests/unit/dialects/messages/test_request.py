"""Messages requests as chat completions."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.dialects.messages.request import to_chat
from trillm.errors import BadRequest

PNG = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def chat(*messages, **members):
    body = {"model": "asked-for", "max_tokens": 9, "messages": list(messages), **members}
    return json.loads(to_chat(json.dumps(body).encode(), "theirs"))


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(words):
    return {"type": "text", "text": words}


def test_the_smallest_request():
    assert chat({"role": "user", "content": "hi"}) == {
        "model": "theirs",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    }


CONVERSATIONS = {
    "one text": ([user(text("hi"))], [{"role": "user", "content": "hi"}]),
    "two texts": ([user(text("a"), text("b"))], [{"role": "user", "content": [text("a"), text("b")]}]),
    "marks of the cache are left out": (
        [user(text("hi") | {"cache_control": {"type": "ephemeral"}})],
        [{"role": "user", "content": "hi"}],
    ),
    "a turn with nothing in it": (
        [user(text("a")), assistant(), user({"type": "search_result", "content": []}), user()],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": ""},
            {"role": "user", "content": ""},
        ],
    ),
    "an image": ([user({"type": "image", "source": PNG})], [{"role": "user", "content": [PNG_PART]}]),
    "an image by its address": (
        [user({"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}})],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}],
    ),
    "a document": (
        [user({"type": "document", "title": "T", "source": PNG | {"media_type": "application/pdf"}})],
        [
            {
                "role": "user",
                "content": [
                    text("T"),
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "T"}},
                ],
            }
        ],
    ),
    "a document of words": (
        [user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}})],
        [{"role": "user", "content": "words"}],
    ),
    "a document of blocks": (
        [
            user(
                {
                    "type": "document",
                    "source": {"type": "content", "content": [text("a"), {"type": "image", "source": PNG}]},
                }
            )
        ],
        [{"role": "user", "content": [text("a"), PNG_PART]}],
    ),
    "a search result": (
        [user({"type": "search_result", "source": "s", "title": "t", "content": [text("found")]})],
        [{"role": "user", "content": [text("t\ns"), text("found")]}],
    ),
    "an assistant's thoughts, words and calls": (
        [
            assistant(
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                text("look"),
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
            )
        ],
        [
            {
                "role": "assistant",
                "content": "look",
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            }
        ],
    ),
    "calls alone": (
        [assistant({"type": "tool_use", "id": "c1", "name": "f", "input": {}})],
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            }
        ],
    ),
    "results come before what is said with them": (
        [
            user(
                text("so?"),
                {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "c2", "is_error": True, "content": [text("a"), text("b")]},
                {"type": "tool_result", "tool_use_id": "c3"},
            )
        ],
        [
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": "a\nb"},
            {"role": "tool", "tool_call_id": "c3", "content": ""},
            {"role": "user", "content": "so?"},
        ],
    ),
    "an image in a result is shown after it": (
        [user({"type": "tool_result", "tool_use_id": "c", "content": [text("see"), {"type": "image", "source": PNG}]})],
        [{"role": "tool", "tool_call_id": "c", "content": "see"}, {"role": "user", "content": [PNG_PART]}],
    ),
    "a system message in between": (
        [{"role": "system", "content": "be brief"}, user(text("hi"))],
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    ),
    "an empty turn of the assistant's": ([assistant()], [{"role": "assistant", "content": ""}]),
}


@pytest.mark.parametrize(("given_", "expected"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_conversations(given_, expected):
    assert chat(*given_)["messages"] == expected


@pytest.mark.parametrize("system", ["be\nkind", [text("be"), text("kind")]])
def test_the_system_prompt_is_the_first_message(system):
    assert chat(user(text("hi")), system=system)["messages"][0] == {"role": "system", "content": "be\nkind"}


TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
MEMBERS = {
    "stop": ({"stop_sequences": ["a"]}, {"stop": ["a"]}),
    "no stop": ({"stop_sequences": []}, {}),
    "user": ({"metadata": {"user_id": "u"}}, {"user": "u"}),
    "sampling": ({"temperature": 0.5, "top_p": 0.1, "top_k": 3}, {"temperature": 0.5, "top_p": 0.1, "top_k": 3}),
    "a server's own settings": (
        {"min_p": 0.1, "chat_template_kwargs": {"a": 1}},
        {"min_p": 0.1, "chat_template_kwargs": {"a": 1}},
    ),
    "a stream is counted": ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
    "no stream": ({"stream": False}, {"stream": False}),
    "what has no place there": ({"thinking": {"type": "enabled", "budget_tokens": 99}, "service_tier": "auto"}, {}),
    "whose it is": ({"user_profile_id": "u", "workspace_id": "w"}, {}),
    "null": ({"container": None, "system": None, "tools": None}, {}),
    "effort": ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
    "a format": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"a": 1}, "strict": True},
            }
        },
    ),
    "tools": (
        {"tools": [TOOL, {"type": "custom", "strict": True, **TOOL}]},
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "description": "d"}},
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"type": "object"}, "description": "d", "strict": True},
                },
            ]
        },
    ),
}


@pytest.mark.parametrize(("given_", "expected"), MEMBERS.values(), ids=MEMBERS.keys())
def test_members(given_, expected):
    plain = chat(user(text("hi")))
    assert chat(user(text("hi")), **given_) == plain | expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
    ],
)
def test_choice_of_tools(choice, expected):
    without = chat(user(text("hi")), tools=[TOOL])
    assert chat(user(text("hi")), tools=[TOOL], tool_choice=choice) == without | expected


REFUSED = {
    "no messages": ({}, None),
    "messages of another type": ({"messages": "hi"}, "messages"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0]"),
    "an unknown block": ({"messages": [user({"type": "video"})]}, "messages[0].content[0].type"),
    "a call by a user": (
        {"messages": [user({"type": "tool_use", "id": "c", "name": "f", "input": {}})]},
        "messages[0].content[0]",
    ),
    "an image by an assistant": ({"messages": [assistant({"type": "image", "source": PNG})]}, "messages[0].content[0]"),
    "input that is no object": (
        {"messages": [assistant({"type": "tool_use", "id": "c", "name": "f", "input": "x"})]},
        "messages[0].content[0].input",
    ),
    "a file by its id": (
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
        "messages[0].content[0]",
    ),
    "a document by its address": (
        {"messages": [user({"type": "document", "source": {"type": "url", "url": "https://x.example"}})]},
        "messages[0].content[0]",
    ),
    "a server's tool": (
        {"messages": [], "tools": [{"type": "web_search_20260209", "name": "web_search"}]},
        "tools[0].type",
    ),
    "a tool without a schema": ({"messages": [], "tools": [{"name": "f"}]}, "tools[0].input_schema"),
    "a choice without a name": ({"messages": [], "tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice"),
    "a container": ({"messages": [], "container": "c"}, "container"),
    "MCP servers": ({"messages": [], "mcp_servers": [{"name": "m"}]}, "mcp_servers"),
    "an unknown format": ({"messages": [], "output_config": {"format": {"type": "xml"}}}, "output_config.format"),
}


@pytest.mark.parametrize(("body", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_said_is_refused_with_its_place(body, param):
    with pytest.raises(BadRequest) as caught:
        to_chat(json.dumps({"model": "m", **body}).encode(), "m")
    assert caught.value.param == param


# Values of the right type mostly, of any other sometimes.
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "document", "tool_use", "tool_result", "thinking", "video"])},
    optional=dict.fromkeys(("text", "source", "id", "name", "input", "content", "tool_use_id", "thinking"), anything),
)
contents = st.text(max_size=5) | st.lists(blocks, max_size=3) | anything
conversation = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": contents}), max_size=4
)
OTHERS = ("system", "tools", "tool_choice", "stop_sequences", "metadata", "output_config", "stream", "max_tokens")
fields = st.fixed_dictionaries({"messages": conversation | anything}, optional=dict.fromkeys(OTHERS, anything))


@given(fields)
def test_any_request_becomes_a_chat_or_is_refused(body):
    with contextlib.suppress(BadRequest):
        told = json.loads(to_chat(json.dumps(body).encode(), "m"))
        assert told["model"] == "m"
        assert all(isinstance(message["role"], str) for message in told["messages"])


@given(st.binary())
def test_no_bytes_break_it(body):
    with contextlib.suppress(BadRequest):
        to_chat(body, "m")
