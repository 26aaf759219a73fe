"""Whole calls, from a call to its reply, through a real pool and real connections to servers in memory."""

from functools import partial

import pytest
import trio
import trio.testing
from support.cancelling import run_cancelled_at
from support.gateways import (
    COMMENT,
    DONE,
    END,
    FINISH,
    FLOWING,
    GOOD,
    ROLE,
    STREAM,
    STREAMED,
    RecordingReply,
    Rig,
    a_call,
    a_rig,
    answers,
    chunk,
    one,
    tok,
    two,
    unblamed,
)
from support.pools import a_route, a_server
from support.servers import CLOSE

from trillm.budget import Budget
from trillm.errors import TrillmError
from trillm.gateway.journey import Outcome
from trillm.gateway.limits import Limits
from trillm.gateway.reply import ClientLeft
from trillm.models import Operation
from trillm.registry.document import Budgets

# ── budgets ───────────────────────────────────────────────────────────────────────────────────────────────────────


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
    reply = await rig.ask(a_call(Operation.CHAT, (b"x-trillm-budget", asked), stream=False))
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


# ── stopping ──────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── the caller leaves ─────────────────────────────────────────────────────────────────────────────────────────────


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


@pytest.mark.parametrize("at", ["start", "send", "finish"])
async def test_a_defect_of_a_face_is_ours_too_and_the_reply_still_ends_once(at, autojump_clock, nursery, caplog):
    rig = one(nursery, STREAM + chunk(tok("a")), 1.0, chunk(DONE) + END)
    reply = await rig.ask(a_call(**STREAMED), RecordingReply(leaves_at=at, defect=ZeroDivisionError()))
    assert reply.endings == (["finish"] if at == "finish" else ["abort"])
    assert reply.misused == []
    assert rig.journey.outcome is Outcome.BROKEN


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────────────


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
