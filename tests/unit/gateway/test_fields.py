"""Requests with any of OpenAI's fields, of the right type or not: they reach every kind of server whole, or get a 4xx.

The fields are those of a chat completion in OpenAI's API description 2.3.0, and some that servers add.
"""

import json

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pools import a_pool, a_server, found

from trillm.backends import KINDS
from trillm.budget import Budget
from trillm.errors import BadRequest
from trillm.gateway.call import read_call
from trillm.gateway.outgoing import outgoing
from trillm.models import Operation

text, number, flag = st.text(max_size=6), st.floats(-3, 3), st.booleans()
count = st.integers(-1, 5000)
scalars = st.none() | flag | st.integers(-9, 9) | text
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2), max_leaves=6
)


def members(**optional):
    return st.fixed_dictionaries({}, optional=optional)


image = st.fixed_dictionaries({"url": text}, optional={"detail": st.sampled_from(["auto", "low", "high", "original"])})
parts = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": text}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": image | text}),
    st.fixed_dictionaries({"type": st.just("input_audio"), "input_audio": members(data=text, format=text)}),
    st.fixed_dictionaries({"type": st.just("file"), "file": members(file_data=text, file_id=text, filename=text)}),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": text}),
)
function = members(name=text, arguments=text, description=text, parameters=anything, strict=flag)
calls = st.lists(st.fixed_dictionaries({"id": text, "type": st.just("function"), "function": function}), max_size=2)
THOUGHTS = ("reasoning", "reasoning_content")
messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["developer", "system", "user", "assistant", "tool", "function"]),
            "content": text | st.lists(parts, max_size=3) | st.none(),
        },
        optional={
            "name": text,
            "tool_calls": calls,
            "tool_call_id": text,
            "reasoning": text,
            "reasoning_content": text,
        },
    ),
    max_size=3,
)
FIELDS = {
    "audio": members(voice=text, format=text),
    "frequency_penalty": number,
    "function_call": text | members(name=text),
    "functions": st.lists(function, max_size=2),
    "logit_bias": st.dictionaries(text, count, max_size=2),
    "logprobs": flag,
    "max_completion_tokens": count,
    "max_tokens": count,
    "metadata": st.dictionaries(text, text, max_size=2),
    "modalities": st.lists(st.sampled_from(["text", "audio"])),
    "moderation": anything,
    "n": count,
    "parallel_tool_calls": flag,
    "prediction": members(type=st.just("content"), content=text),
    "presence_penalty": number,
    "prompt_cache_key": text,
    "prompt_cache_retention": text,
    "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    "response_format": members(type=st.sampled_from(["text", "json_object", "json_schema"]), json_schema=anything),
    "safety_identifier": text,
    "seed": count,
    "service_tier": text,
    "stop": text | st.lists(text, max_size=4),
    "store": flag,
    "stream": flag,
    "stream_options": members(include_usage=flag, include_obfuscation=flag),
    "temperature": number,
    "tool_choice": text | anything,
    "tools": st.lists(members(type=text, function=function), max_size=2),
    "top_logprobs": count,
    "top_p": number,
    "user": text,
    "verbosity": text,
    "web_search_options": anything,
    # what servers add
    "top_k": count,
    "min_p": number,
    "chat_template_kwargs": anything,
    "keep_alive": text,
}
right = st.fixed_dictionaries(
    {"messages": messages}, optional={name: st.none() | kind for name, kind in FIELDS.items()}
)
wrong = st.dictionaries(st.sampled_from([*FIELDS, "messages", "model"]), anything, max_size=5)


def sent(body: dict, kind: str) -> dict:
    """What a server of a kind is sent for a chat request."""

    async def in_trio():
        pool, _ = a_pool(a_server("one", url="http://gpu1.example:8000", kind=kind))
        pool.probed(pool.members["one"], found("m"))
        async with pool.lease(pool.catalog.find("m").plan, Budget(5, 5)) as lease:
            return outgoing(read_call(Operation.CHAT, [], json.dumps(body).encode()), lease)

    return json.loads(trio.run(in_trio).body)


CHAT_KINDS = sorted(set(KINDS) - {"tei", "infinity"})


@pytest.mark.parametrize("kind", CHAT_KINDS)
@given(right)
@settings(max_examples=20)
def test_every_field_reaches_every_kind_of_server(kind, body):
    body = {"model": "m", **body}
    told = sent(body, kind)
    expected = dict(body)
    if body.get("stream") and "stream_options" not in body and KINDS[kind].counts_streams:
        expected["stream_options"] = {"include_usage": True}
    if kind == "ollama" and "max_completion_tokens" in body:
        expected.setdefault("max_tokens", expected.pop("max_completion_tokens"))
    if KINDS[kind].thoughts is not None:
        told["messages"], expected["messages"] = without_thoughts(told), without_thoughts(expected)
    assert told == expected


def without_thoughts(body):
    return [{name: value for name, value in message.items() if name not in THOUGHTS} for message in body["messages"]]


@given(right, wrong)
@settings(max_examples=80)
def test_fields_of_any_type_are_passed_on_or_refused(body, mistakes):
    try:
        told = sent({"model": "m", **body, **mistakes}, "vllm")
    except BadRequest as refused:
        refusal = refused
    else:
        assert told["model"] == "m"
        return
    assert refusal.status == 400
    assert refusal.param in {"model", "messages", "stream"}
