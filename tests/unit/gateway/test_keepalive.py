"""Comments while the first token is slow: held back, never in the way of what can still be done."""

import json

import pytest
from support.cancelling import run_cancelled_at
from support.gateways import (
    DONE,
    END,
    FINISH,
    GOOD_STREAM,
    STREAM,
    RecordingReply,
    a_call,
    answers,
    chunk,
    one,
    tok,
    two,
)
from support.servers import CLOSE

from trillm.gateway.journey import Outcome
from trillm.gateway.keepalive import COMMENT
from trillm.gateway.limits import Limits

LONG = Limits(chat=60)
STREAMED = {"stream": True}
WHERE = {
    "the head": [20.0, GOOD_STREAM],
    "the content": [STREAM, 20.0, GOOD_STREAM.removeprefix(STREAM)],
}


@pytest.mark.parametrize("steps", WHERE.values(), ids=WHERE.keys())
async def test_a_slow_first_token_is_bridged(steps, autojump_clock, nursery):
    rig = one(nursery, *steps, limits=LONG)
    reply = await rig.ask(a_call(**STREAMED))
    assert reply.body.startswith(COMMENT * 2 + b"data: ")
    assert reply.body.count(COMMENT) == 2
    assert reply.body.endswith(DONE)
    assert reply.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert reply.headers[b"x-trillm-server"] == b"one"
    assert reply.misused == []
    assert (rig.journey.outcome, rig.journey.status) == (Outcome.OK, 200)
    assert rig.journey.first_token - rig.journey.call.received == pytest.approx(20, abs=0.01)
    assert await rig.left() == {}


async def test_a_quick_one_is_not(autojump_clock, nursery):
    reply = await one(nursery, 7.0, GOOD_STREAM, limits=LONG).ask(a_call(**STREAMED))
    assert COMMENT not in reply.body


@pytest.mark.parametrize("limits", [Limits(), Limits(chat=14.9)])
async def test_with_a_short_budget_there_is_none(limits, autojump_clock, nursery):
    reply = await one(nursery, 20.0, GOOD_STREAM, limits=limits).ask(a_call(**STREAMED))
    assert reply.status == 504


async def test_an_early_failure_keeps_its_status(autojump_clock, nursery):
    reply = await one(nursery, 5.0, answers(400), limits=LONG).ask(a_call(**STREAMED))
    assert reply.status == 400


async def test_before_the_first_comment_another_server_can_be_tried(autojump_clock, nursery):
    rig = two(nursery, [5.0, CLOSE], [6.0, GOOD_STREAM], limits=LONG)
    reply = await rig.ask(a_call(model="r", **STREAMED))
    assert (reply.status, rig.journey.attempts) == (200, 2)
    assert reply.body.endswith(DONE)


async def test_after_it_a_failure_is_an_error_event(autojump_clock, nursery):
    rig = one(nursery, 10.0, answers(400, b'{"error":{"message":"too long"}}'), limits=LONG)
    reply = await rig.ask(a_call(**STREAMED))
    assert (reply.status, reply.endings) == (200, ["finish"])
    comment, error, rest = reply.body.split(b"\n\n")
    assert (comment + b"\n\n", rest) == (COMMENT, b"")
    assert json.loads(error.removeprefix(b"data: "))["error"]["message"] == "too long"


async def test_the_budget_still_counts_from_the_arrival(autojump_clock, nursery):
    rig = one(nursery, 100.0, GOOD_STREAM, limits=Limits(chat=20))
    reply = await rig.ask(a_call(**STREAMED))
    assert reply.body.count(COMMENT) == 2
    assert b"latency_budget_exceeded" in reply.body
    assert b'"first_token"' in reply.body


async def test_once_it_flows_only_the_stall_limit_counts(autojump_clock, nursery):
    steps = [10.0, STREAM + chunk(tok("a")), 15.0, chunk(tok("b"), FINISH, DONE) + END]
    reply = await one(nursery, *steps, limits=LONG).ask(a_call(**STREAMED))
    assert reply.body == COMMENT + tok("a") + tok("b") + FINISH + DONE


async def test_a_caller_that_leaves_at_a_comment_is_gone(autojump_clock, nursery):
    rig = one(nursery, 30.0, GOOD_STREAM, limits=LONG)
    await rig.ask(a_call(**STREAMED), RecordingReply(leaves_at="send"))
    assert rig.journey.outcome is Outcome.CLIENT_GONE
    assert await rig.left() == {}


async def test_a_whole_answer_is_never_kept_alive(autojump_clock, nursery):
    reply = await one(nursery, 20.0, answers(200, b'{"choices":[]}'), limits=LONG).ask(a_call())
    assert (reply.status, reply.body) == (200, b'{"choices":[]}')


async def test_cancelled_anywhere_it_leaves_nothing_behind(autojump_clock, nursery):
    for wait in range(1, 60):
        rig = one(nursery, 20.0, GOOD_STREAM, limits=LONG)
        reached = await run_cancelled_at(wait, lambda rig=rig: rig.ask(a_call(**STREAMED)))
        assert await rig.left() == {}
        if not reached:
            return
    pytest.fail("it does not end")
