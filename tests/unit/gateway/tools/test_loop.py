"""The loop through a whole gateway, under virtual time: what it costs, what ends it, and that nothing is left over."""

from functools import partial

import pytest
import trio
import trio.testing
from support.cancelling import run_cancelled_at
from support.gateways import DONE, END, FINISH, ROLE, STREAM, RecordingReply, a_call, chunk, one
from support.pools import a_server
from support.tools import Tools, a_tool_call, a_tool_rig, calls, mcp, raises, says

from trillm.errors import Forbidden
from trillm.gateway.journey import Outcome
from trillm.gateway.limits import Limits
from trillm.gateway.reply import ClientLeft
from trillm.gateway.tools.streamed import KEEP_ALIVE_S
from trillm.pool.breaker import Breaker
from trillm.registry.document import Budgets, ToolLimits

WHOLE_AND_STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def slow(seconds, *, list_takes_s=0.0):
    """Tools of which each call takes so long."""
    return Tools({"weather": {"now": says("21 degrees", after_s=seconds)}}, list_takes_s=list_takes_s)


def text(reply: RecordingReply, stream: bool) -> str:
    if not stream:
        return reply.body.decode()
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in reply.events()[:-1] if e["choices"])


# ── budgets ───────────────────────────────────────────────────────────────────────────────────────────────────────


SPENT = {
    # what takes long                       tools, turns, the phase
    "the list of tools": (slow(0, list_takes_s=60), [calls("weather__now")], "tools"),
    "a tool": (slow(60), [calls("weather__now")], "tools"),
    "tools in a row": (slow(2), [calls("weather__now", times=9)], "tools"),
    "a later turn": (slow(1), [calls("weather__now"), {"fault": "silent"}], None),
    "a turn that only calls": (slow(0), [{**calls("weather__now", "weather__now"), "itl_s": 1.2, "times": 9}], None),
}


@WHOLE_AND_STREAM
@pytest.mark.parametrize(("tools", "directed", "phase"), SPENT.values(), ids=SPENT)
async def test_all_turns_and_tools_have_one_budget_until_something_is_seen(
    stream, tools, directed, phase, autojump_clock, nursery
):
    rig = a_tool_rig(nursery, tools)
    began = trio.current_time()
    reply = await rig.ask(a_tool_call(*directed, stream=stream))
    assert trio.current_time() - began == pytest.approx(5)
    assert reply.status == 504
    error = reply.error()
    assert (error["phase"], error["budget_s"]) == (phase or ("first_token" if stream else "total"), 5)
    assert rig.journeys[0].outcome is Outcome.BUDGET
    await trio.testing.wait_all_tasks_blocked()
    assert rig.left() == {}


@WHOLE_AND_STREAM
async def test_no_server_is_blamed_for_time_that_tools_have_spent(stream, autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(4.5))
    await rig.ask(a_tool_call(calls("weather__now"), {"fault": "silent"}, stream=stream))
    assert rig.pool.members["one"].breaker == Breaker()


async def test_a_first_turn_that_is_late_is_held_against_its_server(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(0))
    await rig.ask(a_tool_call({"fault": "silent"}, stream=True))
    assert rig.pool.members["one"].breaker != Breaker()


async def test_once_a_stream_flows_no_gap_may_be_longer_than_the_stall_limit(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(4), limits=Limits(stall=4.5))
    turn = calls("weather__now", say="Hm.")
    began = trio.current_time()
    reply = await rig.ask(a_tool_call({**turn, "times": 3}, {"ttft_s": 4.4, "tokens": 3}, stream=True))
    assert trio.current_time() - began == pytest.approx(3 * 4 + 4.4)
    assert reply.events()[-1] == "[DONE]"
    assert rig.journeys[0].outcome is Outcome.OK


@pytest.mark.parametrize("stall", [4, 7])
@pytest.mark.parametrize(("tool_s", "ttft_s", "phase"), [(9, 0, "tools"), (0, 9, "first_token")])
async def test_a_gap_that_is_longer_ends_the_stream_with_an_error(
    stall, tool_s, ttft_s, phase, autojump_clock, nursery
):
    rig = a_tool_rig(nursery, slow(tool_s), limits=Limits(stall=stall))
    call = a_tool_call(calls("weather__now", say="Hm.", ttft_s=3), {"ttft_s": ttft_s}, stream=True)
    reply = await rig.ask(call)
    assert trio.current_time() - call.received == pytest.approx(3 + stall)
    error = reply.events()[-1]["error"]
    assert (error["phase"], error["budget_s"]) == (phase, stall)
    assert (reply.status, reply.endings) == (200, ["finish"])
    await trio.testing.wait_all_tasks_blocked()
    assert rig.left() == {}


@pytest.mark.parametrize("tool_s", [4, 9])
async def test_a_limit_on_the_whole_stream_counts_over_all_turns(tool_s, autojump_clock, nursery):
    server = a_server("one", budgets=Budgets(total=10, stall=30))
    rig = a_tool_rig(nursery, slow(tool_s), server)
    call = a_tool_call(calls("weather__now", say="Hm.", times=9), stream=True)
    reply = await rig.ask(call)
    assert trio.current_time() - call.received == pytest.approx(10)
    assert reply.events()[-1]["error"]["phase"] == "total"


@WHOLE_AND_STREAM
async def test_the_ceiling_is_for_callers_wishes_alone(stream, autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(2), limits=Limits(ceiling=1))
    reply = await rig.ask(a_tool_call(calls("weather__now"), {"ttft_s": 2}, stream=stream))
    assert reply.status == 200


async def test_an_answer_without_a_word_may_be_taken_slowly_too(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(ROLE, FINISH, DONE) + END)
    rig.gateway.tools = Tools({"weather": {"now": says("")}})
    reply = await rig.ask(a_call(tools=[mcp("weather")], stream=True), RecordingReply(takes_s=9))
    assert (reply.endings, rig.journey.outcome) == (["finish"], Outcome.OK)
    assert [event["choices"][0]["delta"] for event in reply.events()[:-1]] == [{"role": "assistant"}]


async def test_the_budget_of_the_server_that_answers_applies_to_what_follows_too(autojump_clock, nursery):
    strict = a_server("one", budgets=Budgets(chat=2), weight=100)
    rig = a_tool_rig(nursery, slow(60), strict, a_server("two", budgets=Budgets(chat=20), weight=0.01))
    call = a_tool_call(calls("weather__now"), stream=False)
    assert (await rig.ask(call)).error()["budget_s"] == 2
    assert trio.current_time() - call.received == pytest.approx(2)


@WHOLE_AND_STREAM
async def test_a_caller_that_is_slow_to_take_the_answer_spends_its_own_time(stream, autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(1))
    call = a_tool_call(calls("weather__now", say="Hm."), stream=stream, headers=[(b"x-trillm-tool-steps", b"1")])
    reply = await rig.ask(call, RecordingReply(takes_s=9))
    assert (reply.endings, rig.journeys[0].outcome) == (["finish"], Outcome.OK)
    assert "A tool said: 21 degrees" in text(reply, stream)


# ── the stream while tools run ────────────────────────────────────────────────────────────────────────────────────


async def test_while_tools_run_a_stream_that_has_begun_is_kept_alive(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(3 * KEEP_ALIVE_S + 1), limits=Limits(chat=60))
    reply = await rig.ask(a_tool_call(calls("weather__now", say="Hm."), stream=True))
    assert reply.pieces.count(b": \n\n") == 3
    assert reply.misused == []


async def test_a_stream_that_has_not_begun_stays_free_to_fail(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(30), limits=Limits(chat=60))
    reply = await rig.ask(a_tool_call(calls("weather__now"), {"fault": "500"}, stream=True))
    assert reply.status == 502


async def test_steps_are_told_as_they_happen(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(2))
    headers = [(b"x-trillm-tool-steps", b"1")]
    reply = RecordingReply()
    nursery.start_soon(rig.ask, a_tool_call(calls("weather__now"), stream=True, headers=headers), reply)
    await trio.sleep(1)
    assert [step["status"] for step in reply.events()[-1]["trillm"]["tool_steps"]] == ["in_progress"]
    await trio.sleep(2)
    [step] = [e["trillm"]["tool_steps"][0] for e in reply.events()[:-1] if "trillm" in e][1:]
    assert (step["status"], step["seconds"]) == ("completed", 2)


# ── records ───────────────────────────────────────────────────────────────────────────────────────────────────────


@WHOLE_AND_STREAM
async def test_a_request_has_one_record_of_all_its_turns(stream, autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(1))
    body = {"stream_options": {"include_usage": True}} if stream else {}
    call = a_tool_call({**calls("weather__now"), "ttft_s": 0.5, "times": 2}, stream=stream, **body)
    await rig.ask(call)
    [journey] = rig.journeys
    fields = journey.fields(journey.times())
    shown = {name: fields[name] for name in ("outcome", "status", "server", "attempts", "turns", "tool_calls")}
    assert shown == {
        "outcome": "ok", "status": 200, "server": "one", "attempts": 3, "turns": 3, "tool_calls": 2}  # fmt: skip
    assert (fields["tools_s"], fields["queue_s"]) == (pytest.approx(2), 0)
    assert fields["first_token_s"] == pytest.approx(3)
    assert fields["completion_tokens"] == 80 + 2
    assert [turn.usage.completion_tokens for turn in journey.turns] == [1, 1, 80]
    tokens = b'trillm_tokens_total{direction="completion",operation="chat",server="one"} 82.0'
    assert tokens in rig.gateway.metrics.exposition()


async def test_the_servers_latency_is_that_of_each_turn(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(3))
    await rig.ask(a_tool_call({**calls("weather__now"), "ttft_s": 0.5}, {"ttft_s": 0.5}, stream=True))
    assert rig.pool.members["one"].first_token.percentile(1) == pytest.approx(0.5)


async def test_an_attempt_that_fails_before_content_is_followed_by_another_in_a_later_turn_too(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(1), a_server("one"), a_server("two"))
    await rig.ask(a_tool_call(calls("weather__now", say="Hm."), {"fault": "500"}, stream=True))
    assert rig.journeys[0].attempts >= 3


# ── endings ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("say", ["", "Hm."])
@WHOLE_AND_STREAM
async def test_a_shutdown_ends_tools_at_once(stream, say, autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(60), limits=Limits(chat=90))
    reply = RecordingReply()
    async with trio.open_nursery() as callers:
        callers.start_soon(rig.ask, a_tool_call(calls("weather__now", say=say), stream=stream), reply)
        await trio.sleep(2)
        assert rig.tools.running == 1
        rig.gateway.cut_all("trillm is stopping.")
        cut_at = trio.current_time()
    assert trio.current_time() == cut_at
    assert rig.journeys[0].outcome is Outcome.STOPPED
    error = reply.events()[-1]["error"] if stream and say else reply.error()
    assert error["code"] == "stopping"
    assert (reply.status, reply.misused) == (200 if stream and say else 503, [])
    assert rig.left() == {}


async def test_a_stream_whose_caller_takes_nothing_is_aborted(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(60), limits=Limits(chat=90))
    reply = RecordingReply(takes_s=60)
    async with trio.open_nursery() as callers:
        callers.start_soon(rig.ask, a_tool_call(calls("weather__now", say="Hm."), stream=True), reply)
        await trio.sleep(2)
        reply.takes_s = 300
        await trio.sleep(60)
        rig.gateway.cut_all("trillm is stopping.")
    assert reply.endings == ["abort"]


@WHOLE_AND_STREAM
async def test_a_key_that_loses_its_right_meanwhile_ends_the_request(stream, autojump_clock, nursery):
    denied = raises(Forbidden("The key may not use 'now' any more."))
    rig = a_tool_rig(nursery, Tools({"weather": {"now": denied, "slow": says("", after_s=9)}}))
    call = a_tool_call(calls("weather__slow", "weather__now"), stream=stream)
    reply = await rig.ask(call)
    assert (reply.status, reply.error()["code"]) == (403, "forbidden")
    assert (rig.tools.cancelled, trio.current_time() - call.received) == (1, pytest.approx(0))
    assert rig.journeys[0].outcome is Outcome.REFUSED


@pytest.mark.parametrize("at", ["start", "send", "finish"])
@WHOLE_AND_STREAM
async def test_a_reply_that_finds_the_caller_gone_ends_the_call(stream, at, autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(2 * KEEP_ALIVE_S), limits=Limits(chat=60))
    reply = RecordingReply(leaves_at=at, defect=ClientLeft())
    await rig.ask(a_tool_call(calls("weather__now", say="Hm."), stream=stream), reply)
    expected = Outcome.OK if at == "send" and not stream else Outcome.CLIENT_GONE
    assert rig.journeys[0].outcome is expected
    await trio.testing.wait_all_tasks_blocked()
    assert rig.left() == {}


async def test_a_caller_that_is_gone_when_it_is_to_be_kept_alive_ends_the_tools(autojump_clock, nursery):
    rig = a_tool_rig(nursery, slow(60), limits=Limits(chat=90))
    reply = RecordingReply()
    nursery.start_soon(rig.ask, a_tool_call(calls("weather__now", say="Hm."), stream=True), reply)
    await trio.sleep(1)
    reply.leaves_at = "send"
    await trio.sleep(KEEP_ALIVE_S)
    assert rig.journeys[0].outcome is Outcome.CLIENT_GONE
    assert (rig.tools.cancelled, rig.left()) == (1, {})


CONVERSATIONS = {
    "an answer after two tools": [
        {**calls("weather__now", "weather__now", say="Hm."), "ttft_s": 1},
        {"ttft_s": 1, "tokens": 3},
    ],
    "an answer without text before": [calls("weather__now"), {"tokens": 2}],
    "a model that does not stop": [calls("weather__now", times=99, disobeys=True)],
    "a later turn that fails": [calls("weather__now", say="Hm."), {"fault": "cut", "ttft_s": 1}],
}


@WHOLE_AND_STREAM
@pytest.mark.parametrize("directed", CONVERSATIONS.values(), ids=CONVERSATIONS)
async def test_whenever_the_caller_leaves_everything_is_freed_at_once(stream, directed, autojump_clock):
    call_headers = [(b"x-trillm-tool-steps", b"1")]
    for wait in range(1, 200):
        async with trio.open_nursery() as nursery:
            tools = slow(7, list_takes_s=0.5)
            rig = a_tool_rig(nursery, tools, limits=Limits(chat=90), tool_limits=ToolLimits(turns=2))
            reply = RecordingReply(takes_s=0.5)
            call = a_tool_call(*directed, stream=stream, headers=call_headers)
            came_that_far = await run_cancelled_at(wait, partial(rig.gateway.handle, call, reply))
            left_at = trio.current_time()
            await trio.testing.wait_all_tasks_blocked()
            assert trio.current_time() == left_at
            assert rig.left() == {}
            assert reply.misused == []
            assert len(rig.journeys) == 1
            if came_that_far:
                assert rig.journeys[0].outcome in {Outcome.CLIENT_GONE, Outcome.OK, Outcome.FAILED}
            nursery.cancel_scope.cancel()
        if not came_that_far:
            break
    assert wait > 6
    assert not came_that_far
