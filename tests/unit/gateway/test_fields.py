"""Requests with any of a chat's fields, of the right type or not: every kind of server is sent them, or it is a 4xx."""

import json

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fields import CHAT, anything, bodies, messages
from support.pools import a_pool, a_server, found

from trillm.backends import KINDS
from trillm.budget import Budget
from trillm.errors import BadRequest
from trillm.gateway.call import read_call
from trillm.gateway.outgoing import outgoing
from trillm.models import Operation

THOUGHTS = ("reasoning", "reasoning_content")
right = bodies({"messages": messages}, CHAT)
wrong = st.dictionaries(st.sampled_from([*CHAT, "messages", "model"]), anything, max_size=5)


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
