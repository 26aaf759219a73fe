"""Whole answers on their way to the caller, and what of their headers is the caller's business."""

import json

import pytest
import trio
import trio.testing
from support.gateways import (
    GOOD,
    JSON,
    RecordingReply,
    a_call,
    one,
)
from support.servers import ok

from trillm.dialects.dialect import DIALECTS
from trillm.gateway.journey import Outcome
from trillm.models import Operation


async def test_a_whole_answer_goes_through_untouched(autojump_clock, nursery):
    body = b'{ "choices" : [ ],  "usage": {"prompt_tokens": 3, "completion_tokens": 5}, "x": 1.0 }'
    rig = one(nursery, ok(body, JSON))
    reply = await rig.ask()
    assert (reply.status, reply.body, reply.length, reply.endings) == (200, body, len(body), ["finish"])
    assert reply.headers[b"content-type"] == b"application/json"
    journey = rig.journey
    assert (journey.outcome, journey.status, journey.attempts, journey.server) == (Outcome.OK, 200, 1, "one")
    assert (journey.usage.prompt_tokens, journey.usage.completion_tokens) == (3, 5)
    assert await rig.left() == {}
    assert rig.connections.idle_count() == 1


async def test_the_keys_that_openai_requires_are_filled_in(autojump_clock, nursery):
    (choice,) = json.loads((await one(nursery, GOOD).ask()).body)["choices"]
    assert (choice["logprobs"], choice["message"]) == (None, {"content": "Hello", "refusal": None})


@pytest.mark.parametrize("operation", [op for op in Operation if op not in DIALECTS and op is not Operation.RERANK])
async def test_every_operation_that_passes_through_is_answered(operation, autojump_clock, nursery):
    rig = one(nursery, ok(b'{"data": [], "choices": []}'))
    assert (await rig.ask(a_call(operation))).status == 200
    assert rig.journey.outcome is Outcome.OK


async def test_the_reply_says_who_answered_and_how_long_it_took(autojump_clock, nursery):
    rig = one(nursery, 0.25, GOOD, connect_takes_s=0.5)
    reply = await rig.ask(a_call(Operation.CHAT, (b"x-request-id", b"abc")))
    assert reply.headers[b"x-request-id"] == b"abc"
    assert reply.headers[b"x-trillm-server"] == b"one"
    assert reply.headers[b"server-timing"] == (
        b"queue;dur=0.0, connect;dur=500.0, first-token;dur=750.0, total;dur=750.0"
    )


async def test_headers_that_are_the_callers_business_are_passed_on(autojump_clock, nursery):
    passed = b"x-ratelimit-remaining-tokens: 7\r\nopenai-version: 2020-10-01\r\n"
    ours = (
        b"date: then\r\nserver: other\r\nset-cookie: a=b\r\nx-request-id: theirs\r\nx-trillm-server: inner\r\n"
        b"access-control-allow-origin: *\r\nalt-svc: h3=:443\r\nstrict-transport-security: max-age=1\r\n"
        b"connection: keep-alive\r\n"
    )
    rig = one(nursery, ok(b'{"choices":[]}', passed, ours))
    headers = (await rig.ask()).headers
    assert headers[b"x-ratelimit-remaining-tokens"] == b"7"
    assert headers[b"openai-version"] == b"2020-10-01"
    expected = {b"content-type", b"x-request-id", b"x-trillm-server", b"server-timing"}
    assert headers.keys() - {b"x-ratelimit-remaining-tokens", b"openai-version"} == expected
    assert headers[b"x-trillm-server"] == b"one"
    assert headers[b"x-request-id"] != b"theirs"


async def test_a_connection_is_used_again(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    for _ in range(3):
        await rig.ask()
    assert len(rig.servers["one"].streams) == 1


async def test_a_server_is_free_before_a_slow_caller_has_taken_the_answer(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    nursery.start_soon(rig.ask, a_call(), RecordingReply(takes_s=60))
    await trio.sleep(1)
    assert await rig.left() == {"calls": 1}
    await trio.sleep(200)
    assert rig.journey.outcome is Outcome.OK


async def test_whatever_a_server_counts_the_call_is_answered_and_recorded(autojump_clock, nursery):
    for usage in ('{"prompt_tokens": -5, "completion_tokens": 1e400}', '{"prompt_tokens": -5}', '"many"', "[]", "null"):
        rig = one(nursery, ok(b'{"choices": [], "usage": %b}' % usage.encode(), JSON))
        assert (await rig.ask()).status == 200
        assert rig.journey.outcome is Outcome.OK
    many = b"9" * 400
    rig = one(nursery, ok(b'{"choices": [], "usage": {"prompt_tokens": %b}}' % many, JSON))
    assert (await rig.ask()).status == 200
    assert rig.journey.outcome is Outcome.OK
