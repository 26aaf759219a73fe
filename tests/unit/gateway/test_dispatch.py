"""What is refused for good, what is tried elsewhere, and when that ends."""

import pytest
import trio
import trio.testing
from support.gateways import (
    COMMENT,
    DONE,
    END,
    ERROR,
    FRAMES,
    GOOD,
    GOOD_STREAM,
    JSON,
    ROLE,
    STREAM,
    STREAMED,
    a_call,
    a_rig,
    answers,
    chunk,
    one,
    tok,
    two,
    unblamed,
)
from support.pools import a_server, in_use
from support.servers import CLOSE, ok

from trillm.budget import Budget
from trillm.gateway.journey import Outcome
from trillm.models import Operation

# ── refused ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_unknown_model_is_404_and_asks_nobody(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    reply = await rig.ask(a_call(model="n"))
    assert (reply.status, reply.error()["code"]) == (404, "model_not_found")
    assert reply.headers[b"x-should-retry"] == b"false"
    assert rig.journey.outcome is Outcome.REFUSED
    assert rig.servers["one"].requests == []


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
@pytest.mark.parametrize("members", [{}, STREAMED], ids=["whole", "stream"])
async def test_what_a_server_refuses_is_passed_on_normalised_and_asked_of_nobody_else(
    status, members, autojump_clock, nursery
):
    refusal = answers(status, b'{"error": {"message": "no such thing", "code": 400, "extra": 1}}')
    rig = two(nursery, [refusal])
    reply = await rig.ask(a_call(model="r", **members))
    assert reply.status == status
    assert reply.error() == {
        "message": "no such thing",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
        "extra": 1,
    }
    assert reply.headers[b"x-should-retry"] == b"false"
    assert reply.headers[b"x-trillm-server"] == b"one"
    assert (rig.journey.outcome, rig.journey.attempts) == (Outcome.REFUSED, 1)
    assert rig.servers["two"].requests == []
    assert unblamed(rig) == ["one", "two"]
    assert await rig.left() == {}


# ── tried elsewhere ───────────────────────────────────────────────────────────────────────────────────────────────


FAILURES = {
    "refused": None,
    "closed before the answer": [CLOSE],
    "closed in the head": [b"HTTP/1.1 200 OK\r\ncont", CLOSE],
    "closed in the body": [STREAM + chunk(ROLE), CLOSE],
    "no HTTP": [b"SSH-2.0-OpenSSH_9.6\r\n", CLOSE],
    "500": [answers(500, b"oops")],
    "502": [answers(502)],
    "503": [answers(503)],
    "redirected": [answers(307, b"{}", b"location: http://elsewhere.example/\r\n")],
    "our key rejected": [answers(401)],
    "HTML": [ok(b"<html>", b"content-type: text/html\r\n")],
    "nothing": [ok(b"", JSON)],
    "an error in disguise": [ok(b'{"error": "Unexpected endpoint or method."}', JSON)],
}
STREAM_FAILURES = {
    "JSON": [GOOD],
    "an empty stream": [STREAM + END],
    "an error frame": [STREAM + chunk(ERROR) + END],
    "an error frame and done": [STREAM + chunk(ROLE, ERROR, DONE) + END],
    "an error frame after content in one piece": [STREAM + chunk(tok("Hi"), ERROR) + END],
    "the end before content": [STREAM + chunk(COMMENT, ROLE) + END],
    "nothing but garbage": [STREAM + chunk(b"data: {nonsense\n\n") + END],
}
WHOLE_FAILURES = {
    "a stream": [GOOD_STREAM],
    "an array": [ok(b" [1]", JSON)],
    "a cut body": [b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{", CLOSE],
    "too deep": [ok(b'{"a":' * 100_000, JSON)],
}


@pytest.mark.parametrize("steps", (FAILURES | WHOLE_FAILURES).values(), ids=FAILURES | WHOLE_FAILURES)
async def test_a_whole_answer_that_fails_is_asked_of_another_server(steps, autojump_clock, nursery):
    rig = two(nursery, steps)
    reply = await rig.ask(a_call(model="r"))
    assert (reply.status, reply.headers[b"x-trillm-server"]) == (200, b"two")
    assert (rig.journey.outcome, rig.journey.attempts) == (Outcome.OK, 2)
    assert unblamed(rig) == ["two"]
    assert 'trillm_retries_total{server="one"} 1.0' in rig.gateway.metrics.exposition().decode()
    assert await rig.left() == {}


@pytest.mark.parametrize("steps", (FAILURES | STREAM_FAILURES).values(), ids=FAILURES | STREAM_FAILURES)
async def test_a_stream_that_fails_before_its_content_is_asked_of_another_server(steps, autojump_clock, nursery):
    rig = two(nursery, steps, [GOOD_STREAM])
    reply = await rig.ask(a_call(model="r", **STREAMED))
    assert (reply.status, reply.headers[b"x-trillm-server"]) == (200, b"two")
    assert reply.body == b"".join(FRAMES)
    assert reply.endings == ["finish"]
    assert (rig.journey.outcome, rig.journey.attempts) == (Outcome.OK, 2)
    assert unblamed(rig) == ["two"]
    assert await rig.left() == {}


@pytest.mark.parametrize("members", [{}, STREAMED], ids=["whole", "stream"])
async def test_one_that_is_full_is_left_for_another_and_not_held_to_be_broken(members, autojump_clock, nursery):
    second = [GOOD_STREAM] if members else [GOOD]
    rig = two(nursery, [answers(429, b"{}", b"retry-after: 60\r\n")], second)
    reply = await rig.ask(a_call(model="r", **members))
    assert (reply.status, reply.headers[b"x-trillm-server"]) == (200, b"two")
    assert unblamed(rig) == ["one", "two"]


async def test_the_only_server_is_asked_again_when_it_is_full_and_says_when(autojump_clock, nursery):
    full = answers(429, b"{}", b"retry-after: 2\r\n")
    rig = a_rig(nursery, a_server("one"), scripts={"one": [[[full], [GOOD]]]})
    began = trio.current_time()
    assert (await rig.ask()).status == 200
    assert trio.current_time() - began == pytest.approx(2)


async def test_when_that_is_too_late_the_caller_is_told_when(autojump_clock, nursery):
    rig = one(nursery, answers(429, b'{"error": "slow down"}', b"retry-after: 30\r\n"))
    reply = await rig.ask()
    assert (reply.status, reply.headers[b"retry-after"]) == (429, b"30")
    assert reply.error()["code"] == "upstream_busy"
    assert rig.journey.outcome is Outcome.SHED
    assert unblamed(rig) == ["one"]


async def test_where_everyone_fails_the_last_ones_word_is_passed_on(autojump_clock, nursery):
    rig = two(nursery, [answers(500, b"first")], [answers(500, b"second")])
    reply = await rig.ask(a_call(model="r"))
    assert reply.status == 502
    assert "second" in reply.error()["message"]
    assert (rig.journey.outcome, rig.journey.attempts) == (Outcome.FAILED, 2)
    assert unblamed(rig) == []
    assert await rig.left() == {}


async def test_where_the_others_are_down_that_is_not_the_answer(autojump_clock, nursery):
    rig = two(nursery, [answers(500, b"first")])
    rig.pool.members["two"].reachable = False
    reply = await rig.ask(a_call(model="r"))
    assert reply.status == 502
    assert "first" in reply.error()["message"]
    assert rig.journey.attempts == 2  # the only one that is left was asked twice


async def test_while_the_others_are_busy_they_are_waited_for(autojump_clock, nursery):
    rig = two(nursery, [answers(500)])
    async with rig.pool.lease(rig.pool.catalog.find("two/m").plan, Budget(60, 60)):
        nursery.start_soon(rig.ask, a_call(model="r"))
        await trio.sleep(1)
        assert in_use(rig.pool) == {"two": (1, 1)}
    await trio.sleep(1)
    assert rig.journey.outcome is Outcome.OK


async def test_retries_stop_when_most_of_the_traffic_fails(autojump_clock, nursery):
    rig = a_rig(nursery, *map(a_server, ("one", "two")), scripts={})
    for _ in range(100):
        for member in rig.pool.members.values():
            member.breaker.succeeded()
        assert (await rig.ask()).status == 502
    attempts = sum(journey.attempts for journey in rig.journeys)
    assert 100 + 20 <= attempts <= 100 + 20 + 20


async def test_a_server_that_keeps_failing_is_asked_no_more(autojump_clock, nursery):
    rig = a_rig(nursery, a_server("one"), scripts={})
    statuses = [(await rig.ask()).status for _ in range(4)]
    assert statuses == [502, 502, 503, 503]
    assert rig.journeys[-1].attempts == 0


# ── full, stuck ───────────────────────────────────────────────────────────────────────────────────────────────────


def pooled(nursery, *first, second=(GOOD,), **settings):
    """Two servers that share a model; the first has more weight, so that it is the one to be asked."""
    scripts = {"one": [[first]] * 500, "two": [[second] * 500]}
    return a_rig(nursery, a_server("one", weight=100), a_server("two"), scripts=scripts, **settings)


@pytest.mark.parametrize("says_when", [b"retry-after: 30\r\n", b""])
async def test_one_that_says_it_is_full_is_not_asked_by_the_next_and_costs_no_retries(
    says_when, autojump_clock, nursery
):
    rig = pooled(nursery, answers(429, b"{}", says_when))
    for _ in range(300):
        assert (await rig.ask()).status == 200
        await trio.sleep(0.1)
    asked = len(rig.servers["one"].requests)
    assert asked == 1 if says_when else asked <= 8
    assert sum(journey.attempts for journey in rig.journeys) == 300 + asked
    assert unblamed(rig) == ["one", "two"]


async def test_one_that_said_it_is_full_is_asked_again_when_the_time_is_over(autojump_clock, nursery):
    full = answers(429, b"{}", b"retry-after: 3\r\n")
    scripts = {"one": [[[full]], [[GOOD]]], "two": [[[GOOD]] * 9]}
    rig = a_rig(nursery, a_server("one", weight=100), a_server("two"), scripts=scripts)
    who = []
    for _ in range(3):
        who.append((await rig.ask()).headers[b"x-trillm-server"])
        await trio.sleep(2)
    assert who == [b"two", b"two", b"one"]
    assert rig.pool.members["one"].full is None


async def test_where_everyone_is_full_the_caller_is_told_by_a_server(autojump_clock, nursery):
    full = answers(429, b"{}", b"retry-after: 30\r\n")
    rig = pooled(nursery, full, second=[full])
    for _ in range(50):
        reply = await rig.ask()
        assert (reply.status, reply.error()["code"]) == (429, "upstream_busy")
    assert sum(journey.attempts for journey in rig.journeys) == 51  # the other one was tried the first time only


SILENT = [3600.0]


async def test_one_that_answers_nobody_in_time_is_left_for_another(autojump_clock, nursery):
    rig = pooled(nursery, *SILENT)
    statuses = [(await rig.ask()).status for _ in range(4)]
    assert statuses == [504, 504, 504, 200]
    assert unblamed(rig) == ["two"]
    assert await rig.left() == {}


async def test_one_that_answers_others_meanwhile_is_only_slow(autojump_clock, nursery):
    rig = pooled(nursery, *SILENT)
    for _ in range(4):
        async with trio.open_nursery() as asking:
            asking.start_soon(rig.ask)
            await trio.sleep(1)
            rig.pool.members["one"].answered = trio.current_time()
    assert [journey.server for journey in rig.journeys] == ["one"] * 4
    assert unblamed(rig) == ["one", "two"]


async def test_the_only_server_is_not_given_up_for_long_answers(autojump_clock, nursery):
    rig = one(nursery, *SILENT)
    assert [(await rig.ask()).status for _ in range(4)] == [504] * 4
    assert unblamed(rig) == ["one"]


async def test_a_budget_of_the_callers_own_is_held_against_nobody(autojump_clock, nursery):
    rig = pooled(nursery, *SILENT)
    for _ in range(4):
        assert (await rig.ask(a_call(Operation.CHAT, (b"x-trillm-budget", b"1")))).status == 504
    assert unblamed(rig) == ["one", "two"]
