"""Whole calls, from a call to its reply, through a real pool and real connections to servers in memory."""

import json
from functools import partial

import pytest
import trio
import trio.testing
from support.cancelling import run_cancelled_at
from support.gateways import (
    COMMENT,
    DONE,
    END,
    ERROR,
    FINISH,
    ROLE,
    STREAM,
    WHOLE,
    RecordingReply,
    Rig,
    a_call,
    a_rig,
    chunk,
    event,
    tok,
)
from support.pools import a_route, a_server, in_use
from support.servers import CLOSE, ok

from trillm.budget import Budget
from trillm.errors import TrillmError
from trillm.gateway.journey import Outcome
from trillm.gateway.limits import Limits
from trillm.gateway.reply import ClientLeft
from trillm.models import Operation
from trillm.pool.breaker import Breaker
from trillm.registry.document import Budgets

JSON = b"content-type: application/json\r\n"
GOOD = ok(json.dumps(WHOLE).encode(), JSON)
FRAMES = [ROLE, tok("Hel"), tok("lo"), FINISH, DONE]
GOOD_STREAM = STREAM + b"".join(map(chunk, FRAMES)) + END
STREAMED = {"stream": True}


def answers(status: int, body: bytes = b"{}", *headers: bytes) -> bytes:
    head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n" % (status, len(body))
    return head + b"".join(headers) + b"\r\n" + body


def one(nursery, *steps, budgets=Budgets(), **settings) -> Rig:  # noqa: B008 - a frozen value
    """A gateway before one server, that takes these steps for every request."""
    servers = a_server("one", max_concurrent=2, budgets=budgets)
    return a_rig(nursery, servers, scripts={"one": [[steps] * 9]}, **settings)


def two(nursery, first, second=(GOOD,), **settings) -> Rig:
    """A gateway before a route to a server that takes the first steps, and another to fall back to."""
    scripts = {"two": [[second] * 9]}
    if first is not None:
        scripts["one"] = [[first]] * 9
    servers = [a_server("one", max_concurrent=1), a_server("two", max_concurrent=1)]
    return a_rig(nursery, *servers, scripts=scripts, routes=[a_route("r", "one/m", fallback=["two/m"])], **settings)


def unblamed(rig: Rig) -> list[str]:
    return [name for name, member in rig.pool.members.items() if member.breaker == Breaker()]


# ── answered ────────────────────────────────────────────────────────────────────────────────────────────────────


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


async def test_a_stream_goes_through_untouched(autojump_clock, nursery):
    rig = one(nursery, GOOD_STREAM)
    reply = await rig.ask(a_call(**STREAMED))
    assert (reply.status, reply.body, reply.length, reply.endings) == (200, b"".join(FRAMES), None, ["finish"])
    assert reply.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert reply.headers[b"cache-control"] == b"no-cache"
    assert rig.journey.outcome is Outcome.OK
    assert await rig.left() == {}
    assert rig.connections.idle_count() == 1


@pytest.mark.parametrize("operation", Operation)
async def test_every_operation_is_answered(operation, autojump_clock, nursery):
    rig = one(nursery, GOOD)
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
    rig = one(nursery, ok(b"{}", passed, ours))
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
        rig = one(nursery, ok(b'{"usage": %b}' % usage.encode(), JSON))
        assert (await rig.ask()).status == 200
        assert rig.journey.outcome is Outcome.OK
    many = b"9" * 400
    rig = one(nursery, ok(b'{"usage": {"prompt_tokens": %b}}' % many, JSON))
    assert (await rig.ask()).status == 200
    assert rig.journey.outcome is Outcome.OK


# ── refused ─────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── tried elsewhere ─────────────────────────────────────────────────────────────────────────────────────────────

FAILURES = {
    "refused": None,
    "closed before the answer": [CLOSE],
    "closed in the head": [b"HTTP/1.1 200 OK\r\ncont", CLOSE],
    "closed in the body": [STREAM + chunk(ROLE), CLOSE],
    "no HTTP": [b"SSH-2.0-OpenSSH_9.6\r\n", CLOSE],
    "500": [answers(500, b"oops")],
    "502": [answers(502)],
    "503": [answers(503)],
    "redirected": [answers(307, b"", b"location: http://elsewhere.example/\r\n")],
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


# ── never twice after content ───────────────────────────────────────────────────────────────────────────────────

BREAKS = {
    "cut": [CLOSE],
    "cut in a frame": [chunk(tok("lo")[:20]), CLOSE],
    "the end": [END],
    "an error frame": [chunk(ERROR), END],
    "an error frame and done": [chunk(ERROR, DONE), END],
    "an error frame and done in one piece with content": [chunk(tok("lo"), ERROR, DONE) + END],
    "an error frame without an end": [chunk(ERROR), 60.0],
    "broken chunks": [b"zz\r\n"],
    "a frame without end": [chunk(b"data: " + b"x" * 5_000_000)],
}


@pytest.mark.parametrize("steps", BREAKS.values(), ids=BREAKS)
async def test_a_stream_that_breaks_after_content_ends_with_an_error_and_never_with_done(
    steps, autojump_clock, nursery
):
    rig = two(nursery, [STREAM + chunk(ROLE, tok("Hel")), 0.1, *steps], [GOOD_STREAM])
    reply = await rig.ask(a_call(model="r", **STREAMED))
    *content, error = reply.events()
    assert reply.body.startswith(ROLE + tok("Hel"))
    assert reply.status == 200
    assert len(content) >= 2
    assert error["error"]["code"] == "upstream_failed"
    assert b"[DONE]" not in reply.body
    assert (reply.endings, reply.misused) == (["finish"], [])
    assert (rig.journey.outcome, rig.journey.attempts, rig.journey.status) == (Outcome.FAILED, 1, 200)
    assert rig.servers["two"].requests == []
    assert unblamed(rig) == ["two"]
    assert await rig.left() == {}


async def test_the_servers_own_words_are_in_the_error(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("a")), 0.1, chunk(ERROR) + END)
    assert "out of memory" in (await rig.ask(a_call(**STREAMED))).events()[-1]["error"]["message"]


@pytest.mark.parametrize(
    ("code", "outcome", "blamed"),
    [(400, Outcome.REFUSED, False), (429, Outcome.SHED, False), (500, Outcome.FAILED, True)],
)
async def test_an_error_frame_with_a_status_means_what_the_status_means(code, outcome, blamed, autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("a")), 0.1, chunk(event(error={"message": "no", "code": code})) + END)
    reply = await rig.ask(a_call(**STREAMED))
    assert "no" in reply.events()[-1]["error"]["message"]
    assert rig.journey.outcome is outcome
    assert unblamed(rig) == ([] if blamed else ["one"])


# ── the end of a stream ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_missing_done_is_added_when_the_server_had_finished(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("Hi"), FINISH) + END)
    reply = await rig.ask(a_call(**STREAMED))
    assert reply.body == tok("Hi") + FINISH + DONE
    assert (reply.endings, rig.journey.outcome) == (["finish"], Outcome.OK)


async def test_but_not_when_the_connection_broke_after_that(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("Hi"), FINISH), 0.1, CLOSE)
    reply = await rig.ask(a_call(**STREAMED))
    assert "error" in reply.events()[-1]
    assert rig.journey.outcome is Outcome.FAILED


async def test_a_malformed_frame_is_dropped_and_counted(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("a"), b"data: {nonsense\n\n", tok("b"), FINISH, DONE) + END)
    reply = await rig.ask(a_call(**STREAMED))
    assert reply.body == tok("a") + tok("b") + FINISH + DONE
    assert rig.journey.malformed == 1


async def test_after_done_nothing_is_sent_on_and_the_caller_is_not_made_to_wait(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("a"), DONE, tok("b")), 60.0)
    began = trio.current_time()
    reply = await rig.ask(a_call(**STREAMED))
    assert reply.body == tok("a") + DONE
    assert trio.current_time() - began < 0.5
    assert rig.journey.outcome is Outcome.OK
    assert await rig.left() == {}


async def test_each_wakes_bytes_leave_in_the_same_wake(autojump_clock, nursery):
    rig = one(
        nursery, STREAM, chunk(ROLE), 1.0, chunk(tok("a")), 1.0, chunk(tok("b"), tok("c")), 1.0, chunk(DONE) + END
    )
    reply = RecordingReply()
    nursery.start_soon(rig.ask, a_call(**STREAMED), reply)
    seen = []
    for at_s in (0.5, 1, 1, 1):
        await trio.sleep(at_s)
        seen.append(list(reply.pieces))
    assert seen == [[], [ROLE + tok("a")], [ROLE + tok("a"), tok("b") + tok("c")], [*seen[2], DONE]]


async def test_keep_alives_before_content_commit_to_nothing_and_after_it_are_passed_on(autojump_clock, nursery):
    rig = one(
        nursery, STREAM, chunk(COMMENT), 1.0, chunk(ROLE), 1.0, chunk(tok("a")), 1.0, chunk(COMMENT), chunk(DONE) + END
    )
    reply = RecordingReply()
    nursery.start_soon(rig.ask, a_call(**STREAMED), reply)
    await trio.sleep(1.5)
    assert not reply.started
    await trio.sleep(3)
    assert reply.body == ROLE + tok("a") + b": \n\n" + DONE


async def test_the_usage_of_a_stream_is_recorded(autojump_clock, nursery):
    usage = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 5})
    rig = one(nursery, STREAM + chunk(tok("a"), FINISH, usage, DONE) + END)
    await rig.ask(a_call(**STREAMED))
    assert rig.journey.usage.completion_tokens == 5


# ── budgets ─────────────────────────────────────────────────────────────────────────────────────────────────────

SPENT = {
    "waiting for the head of a stream": (STREAMED, [60.0], "first_token", True),
    "waiting for the first content": (STREAMED, [STREAM + chunk(ROLE), 60.0], "first_token", True),
    "keep-alives instead of content": (STREAMED, [STREAM, *[chunk(COMMENT), 1.0] * 20], "first_token", True),
    "in the answer that says no": (
        STREAMED,
        [b"HTTP/1.1 400 X\r\ncontent-length: 9\r\n\r\n", 60.0],
        "first_token",
        True,
    ),
    "waiting for a whole answer": ({}, [60.0], "total", False),
    "in the middle of a whole answer": ({}, [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", 60.0], "total", False),
}


@pytest.mark.parametrize(("members", "steps", "phase", "blamed"), SPENT.values(), ids=SPENT)
async def test_a_budget_that_is_spent_before_content_is_a_504_that_names_the_phase(
    members, steps, phase, blamed, autojump_clock, nursery
):
    rig = one(nursery, *steps)
    began = trio.current_time()
    reply = await rig.ask(a_call(**members))
    assert trio.current_time() - began == pytest.approx(5)
    assert (reply.status, reply.endings) == (504, ["finish"])
    error = reply.error()
    assert (error["code"], error["phase"], error["budget_s"]) == ("latency_budget_exceeded", phase, 5)
    assert reply.headers[b"x-should-retry"] == b"false"
    assert reply.headers[b"x-trillm-server"] == b"one"
    assert (rig.journey.outcome, rig.journey.status) == (Outcome.BUDGET, 504)
    assert unblamed(rig) == ([] if blamed else ["one"])
    assert await rig.left() == {}


async def test_a_budget_spent_connecting_is_named_so(autojump_clock, nursery):
    rig = one(nursery, GOOD, connect_takes_s=60, limits=Limits(chat=2))
    reply = await rig.ask()
    assert (reply.status, reply.error()["phase"]) == (504, "connect")
    assert unblamed(rig) == []
    assert await rig.left() == {}


async def test_a_budget_spent_in_the_queue_is_named_so_and_nobodys_fault(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    plan = rig.pool.catalog.find("m").plan
    async with rig.pool.lease(plan, Budget(60, 60)), rig.pool.lease(plan, Budget(60, 60)):
        reply = await rig.ask()
        assert (reply.status, reply.error()["phase"]) == (504, "queue")
        assert b"x-trillm-server" not in reply.headers
    assert unblamed(rig) == ["one"]
    assert await rig.left() == {}


async def test_a_wait_that_is_hopeless_is_refused_at_once(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    rig.pool.members["one"].service.add(30)
    plan = rig.pool.catalog.find("m").plan
    async with rig.pool.lease(plan, Budget(60, 60)), rig.pool.lease(plan, Budget(60, 60)):
        reply = await rig.ask()
    assert (reply.status, reply.headers[b"retry-after"]) == (429, b"15")
    assert reply.error()["code"] == "overloaded"
    assert rig.journey.outcome is Outcome.SHED


async def test_the_whole_call_has_one_budget_however_many_attempts_it_takes(autojump_clock, nursery):
    rig = two(nursery, [3.0, answers(500)], [3.0, GOOD])
    began = trio.current_time()
    reply = await rig.ask(a_call(model="r"))
    assert trio.current_time() - began == pytest.approx(5)
    assert reply.status == 504
    assert rig.journey.attempts == 2


async def test_the_time_the_request_took_to_arrive_counts(autojump_clock, nursery):
    rig = one(nursery, 60.0)
    call = a_call()
    await trio.sleep(2)
    began = trio.current_time()
    await rig.ask(call)
    assert trio.current_time() - began == pytest.approx(3)


@pytest.mark.parametrize(("asked", "ceiling", "seconds"), [(b"0.5", 600, 0.5), (b"20", 600, 20), (b"20", 10, 10)])
async def test_a_caller_may_give_its_own_budget_up_to_the_ceiling(asked, ceiling, seconds, autojump_clock, nursery):
    rig = one(nursery, 60.0, limits=Limits(ceiling=ceiling))
    began = trio.current_time()
    reply = await rig.ask(a_call(Operation.CHAT, (b"x-trillm-budget", asked), **STREAMED))
    assert trio.current_time() - began == pytest.approx(seconds)
    assert reply.error()["budget_s"] == seconds
    assert unblamed(rig) == ["one"]  # it was the caller's own wish


async def test_a_servers_and_a_routes_own_budget_apply(autojump_clock, nursery):
    slow = a_server("one", budgets=Budgets(chat=20))
    routes = [a_route("quick", "one/m", budgets=Budgets(chat=1))]
    rig = a_rig(nursery, slow, scripts={"one": [[[60.0]] * 9]}, routes=routes)
    for name, seconds in (("m", 20), ("quick", 1)):
        began = trio.current_time()
        await rig.ask(a_call(model=name))
        assert trio.current_time() - began == pytest.approx(seconds)


FLOWING = [STREAM + chunk(tok("a")), 4.0, chunk(tok("b")), 4.0, chunk(tok("c"))]


async def test_a_stream_may_take_longer_than_the_budget_once_it_flows(autojump_clock, nursery):
    rig = one(nursery, *FLOWING, chunk(DONE) + END)
    began = trio.current_time()
    assert (await rig.ask(a_call(**STREAMED))).events()[-1] == "[DONE]"
    assert trio.current_time() - began == pytest.approx(8)


async def spent_in_the_stream(rig: Rig, reply: RecordingReply | None = None) -> tuple[str, float]:
    began = trio.current_time()
    reply = await rig.ask(a_call(**STREAMED), reply)
    error = reply.events()[-1]["error"]
    assert reply.status == 200
    assert error["code"] == "latency_budget_exceeded"
    assert b"[DONE]" not in reply.body
    assert (reply.endings, reply.misused) == (["finish"], [])
    assert rig.journey.outcome is Outcome.BUDGET
    assert await rig.left() == {}
    return error["phase"], trio.current_time() - began


async def test_a_stall_ends_a_stream_with_an_error_event(autojump_clock, nursery):
    rig = one(nursery, *FLOWING, 60.0)
    assert await spent_in_the_stream(rig) == ("stall", pytest.approx(8 + 5))
    assert unblamed(rig) == []


async def test_the_stall_limit_is_the_servers_own(autojump_clock, nursery):
    rig = one(nursery, *FLOWING, 60.0, budgets=Budgets(stall=4.5))
    assert await spent_in_the_stream(rig) == ("stall", pytest.approx(8 + 4.5))


async def test_keep_alives_do_not_hide_a_stall(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("a")), *[1.0, chunk(COMMENT)] * 60)
    assert await spent_in_the_stream(rig) == ("stall", pytest.approx(5, abs=1.01))
    assert unblamed(rig) == []


async def test_frames_without_content_are_no_stall(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("a")), *[3.0, chunk(ROLE)] * 4, chunk(DONE) + END)
    assert (await rig.ask(a_call(**STREAMED))).events()[-1] == "[DONE]"


async def test_a_limit_for_the_whole_stream_ends_it_however_well_it_flows(autojump_clock, nursery):
    rig = one(nursery, *FLOWING, *[1.0, chunk(tok("d"))] * 60, limits=Limits(total=20))
    assert await spent_in_the_stream(rig) == ("total", pytest.approx(20))
    assert unblamed(rig) == ["one"]


async def test_what_a_slow_caller_takes_is_not_the_servers_stall(autojump_clock, nursery):
    rig = one(nursery, STREAM, *[chunk(tok("a")), 1.0] * 3, chunk(FINISH, DONE) + END)
    reply = await rig.ask(a_call(**STREAMED), RecordingReply(takes_s=60))
    assert reply.events()[-1] == "[DONE]"
    assert (rig.journey.outcome, reply.misused) == (Outcome.OK, [])


async def test_nor_is_it_between_keep_alives(autojump_clock, nursery):
    rig = one(nursery, STREAM, chunk(tok("a")), *[1.0, chunk(COMMENT)] * 4, chunk(FINISH, DONE) + END)
    reply = await rig.ask(a_call(**STREAMED), RecordingReply(takes_s=60))
    assert reply.events()[-1] == "[DONE]"


async def test_nor_is_it_at_the_end_of_a_stream_without_done(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("a"), FINISH) + END)
    reply = await rig.ask(a_call(**STREAMED), RecordingReply(takes_s=60))
    assert (reply.events()[-1], reply.endings, rig.journey.outcome) == ("[DONE]", ["finish"], Outcome.OK)


async def test_a_piece_that_is_cut_short_by_the_total_limit_is_followed_by_nothing(autojump_clock, nursery):
    rig = one(nursery, *FLOWING, chunk(DONE) + END, limits=Limits(total=6))
    reply = await rig.ask(a_call(**STREAMED), RecordingReply(takes_s=5))
    assert (reply.endings, reply.misused) == (["abort"], [])
    assert rig.journey.outcome is Outcome.BUDGET
    assert await rig.left() == {}


@pytest.mark.parametrize("takes_s", [0, 30])
async def test_once_the_end_has_begun_to_go_out_no_budget_can_spoil_it(takes_s, autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("a"), DONE), 60.0, limits=Limits(stall=0.1, total=0.2))
    reply = await rig.ask(a_call(**STREAMED), RecordingReply(takes_s=takes_s))
    if takes_s == 0:
        assert (reply.body, reply.endings, rig.journey.outcome) == (tok("a") + DONE, ["finish"], Outcome.OK)
    assert reply.misused == []
    assert await rig.left() == {}


# ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_while_it_stops_new_calls_are_refused(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    rig.gateway.stopping = True
    reply = await rig.ask()
    assert (reply.status, reply.error()["code"]) == (503, "stopping")
    assert rig.journey.outcome is Outcome.STOPPED


async def cut_after(rig: Rig, seconds: float, reply: RecordingReply, **members) -> None:
    async with trio.open_nursery() as callers:
        callers.start_soon(rig.ask, a_call(**members), reply)
        await trio.sleep(seconds)
        rig.gateway.cut_all("trillm is stopping.")
        cut_at = trio.current_time()
    assert trio.current_time() == cut_at
    assert reply.misused == []
    assert rig.journey.outcome is Outcome.STOPPED
    assert unblamed(rig) == ["one"]
    assert await rig.left() == {}


@pytest.mark.parametrize("members", [{}, STREAMED], ids=["whole", "stream"])
async def test_calls_that_run_when_it_must_stop_are_told(members, autojump_clock, nursery):
    reply = RecordingReply()
    await cut_after(one(nursery, 60.0), 1, reply, **members)
    assert (reply.status, reply.error()["code"]) == (503, "stopping")


async def test_streams_that_run_are_told_by_an_error_event(autojump_clock, nursery):
    reply = RecordingReply()
    await cut_after(one(nursery, *FLOWING, 60.0), 2, reply, **STREAMED)
    assert reply.events()[-1]["error"]["code"] == "stopping"
    assert reply.endings == ["finish"]


async def test_a_stream_whose_caller_takes_nothing_is_aborted(autojump_clock, nursery):
    reply = RecordingReply(takes_s=60)
    await cut_after(one(nursery, *FLOWING, 60.0), 2, reply, **STREAMED)
    assert reply.endings == ["abort"]


async def test_a_whole_answer_that_is_on_its_way_is_not_disturbed(autojump_clock, nursery):
    rig, reply = one(nursery, GOOD), RecordingReply(takes_s=2)
    nursery.start_soon(rig.ask, a_call(), reply)
    await trio.sleep(3)
    assert reply.endings == ["finish"]
    rig.gateway.cut_all("trillm is stopping.")
    await trio.sleep(3)
    assert (reply.status, reply.endings, rig.journey.outcome) == (200, ["finish"], Outcome.OK)


# ── the caller leaves ───────────────────────────────────────────────────────────────────────────────────────────

CONVERSATIONS = {
    "a whole answer": ({}, [1.0, GOOD]),
    "a whole answer in pieces": ({}, [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", 1.0, b"{", 1.0, b"}"]),
    "a stream": (STREAMED, [1.0, STREAM, 1.0, chunk(ROLE), 1.0, chunk(tok("a")), 1.0, chunk(DONE), 0.1, END]),
    "a stream without done": (STREAMED, [STREAM, 1.0, chunk(tok("a"), FINISH), 1.0, END]),
    "a stream that breaks": (STREAMED, [STREAM + chunk(tok("a")), 1.0, CLOSE]),
    "a refusal": ({}, [1.0, b"HTTP/1.1 400 X\r\ncontent-length: 2\r\n\r\n", 1.0, b"{}"]),
    "a failure and another try": ({}, [1.0, CLOSE]),
    "a budget that is spent": ({"headers": [(b"x-trillm-budget", b"0.5")]}, [60.0]),
}


@pytest.mark.parametrize(("members", "steps"), CONVERSATIONS.values(), ids=CONVERSATIONS)
async def test_whenever_the_caller_leaves_everything_is_freed_at_once(members, steps, autojump_clock):
    headers = members.get("headers", ())
    members = {name: value for name, value in members.items() if name != "headers"}
    for wait in range(1, 60):
        async with trio.open_nursery() as nursery:
            rig = one(nursery, *steps, connect_takes_s=0.5)
            reply = RecordingReply(takes_s=0.5)
            # Both slots are taken for a moment: the queue is one of the places to leave from.
            plan = rig.pool.catalog.find("m").plan
            release = trio.Event()
            for _ in range(2):
                nursery.start_soon(hold_until, rig, plan, release)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(set_after, release, 0.25)
            call = a_call(Operation.CHAT, *headers, **members)
            came_that_far = await run_cancelled_at(wait, partial(rig.gateway.handle, call, reply))
            left_at = trio.current_time()
            if came_that_far:
                release.set()
                await trio.testing.wait_all_tasks_blocked()
                assert trio.current_time() == left_at
                assert await rig.left() == {}
                assert reply.misused == []
                assert rig.journey.outcome in {Outcome.CLIENT_GONE, Outcome.OK, *failed_already(rig)}
                assert rig.journey.outcome is Outcome.CLIENT_GONE or reply.started
            nursery.cancel_scope.cancel()
        if not came_that_far:
            break
    assert wait > 4


def failed_already(rig: Rig) -> set[Outcome]:
    """What the outcome may be when the caller left while it was being told."""
    return {Outcome.FAILED, Outcome.REFUSED, Outcome.BUDGET} if rig.journey.error else set()


async def hold_until(rig: Rig, plan, release: trio.Event) -> None:
    async with rig.pool.lease(plan, Budget(60, 60)):
        await release.wait()


async def set_after(release: trio.Event, seconds: float) -> None:
    await trio.sleep(seconds)
    release.set()


@pytest.mark.parametrize(
    ("members", "steps"),
    [({}, [60.0]), (STREAMED, [60.0]), (STREAMED, [*FLOWING, 60.0])],
    ids=["whole", "silent", "stream"],
)
async def test_a_caller_that_leaves_is_not_held_against_the_server(members, steps, autojump_clock, nursery):
    rig = one(nursery, *steps)
    for _ in range(10):
        with trio.move_on_after(1):
            await rig.ask(a_call(**members))
    assert {journey.outcome for journey in rig.journeys} == {Outcome.CLIENT_GONE}
    assert unblamed(rig) == ["one"]
    assert await rig.left() == {}


@pytest.mark.parametrize("members", [{}, STREAMED], ids=["whole", "stream"])
@pytest.mark.parametrize("said", [[], [STREAM], [STREAM + chunk(tok("a"))]], ids=["nothing", "a head", "content"])
async def test_a_server_sees_at_once_that_nobody_waits_any_more(members, said, autojump_clock, nursery):
    rig = a_rig(nursery, a_server("one"), scripts={"one": [[said]]})
    with trio.move_on_after(1):
        await rig.ask(a_call(**members))
    left_at = trio.current_time()
    await trio.testing.wait_all_tasks_blocked()
    assert rig.servers["one"].ended == 1
    assert trio.current_time() == left_at


@pytest.mark.parametrize("at", ["start", "send", "finish"])
@pytest.mark.parametrize(
    ("members", "steps"),
    [({}, [GOOD]), (STREAMED, [*FLOWING, chunk(DONE) + END]), (STREAMED, [*FLOWING, CLOSE]), ({}, [answers(400)])],
    ids=["whole", "stream", "broken stream", "refusal"],
)
async def test_a_reply_that_finds_the_caller_gone_ends_the_call(at, members, steps, autojump_clock, nursery):
    rig = one(nursery, *steps)
    reply = await rig.ask(a_call(**members), RecordingReply(leaves_at=at))
    assert reply.misused == []
    if at == "send" and not members:
        return  # nothing is sent in pieces
    assert rig.journey.outcome is Outcome.CLIENT_GONE
    assert await rig.left() == {}


async def test_a_defect_of_ours_is_a_500_and_recorded(autojump_clock, nursery, caplog):
    rig = one(nursery, GOOD)
    rig.gateway.limits = lambda: None
    reply = await rig.ask()
    assert (reply.status, reply.error()["code"]) == (500, "internal_error")
    assert rig.journey.outcome is Outcome.BROKEN
    assert "request broken" in caplog.text


# ── the record ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_call_leaves_one_record_whatever_happens(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    await rig.ask()
    await rig.ask(a_call(model="nobody"))
    await rig.ask(reply=RecordingReply(leaves_at="start"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await rig.ask()
    rig.gateway.stopping = True
    await rig.ask()
    assert [journey.outcome.value for journey in rig.journeys] == [
        "ok",
        "refused",
        "client_gone",
        "client_gone",
        "stopped",
    ]
    text = rig.gateway.metrics.exposition().decode()
    counted = [line for line in text.splitlines() if line.startswith("trillm_requests_total")]
    assert sum(float(line.split()[-1]) for line in counted) == 5


async def test_what_is_logged_holds_nothing_a_caller_wrote_but_the_models_name(autojump_clock, nursery, caplog):
    caplog.set_level("INFO")
    rig = one(nursery, GOOD)
    await rig.ask(a_call(messages=["a secret"]))
    (record,) = (record for record in caplog.records if record.message == "request")
    assert record.fields["model"] == "m"
    assert record.fields["outcome"] == "ok"
    assert "secret" not in str(record.fields)


def test_client_left_is_nobodys_error():
    assert not issubclass(ClientLeft, TrillmError)
