"""A stream on its way: untouched, in time, and to exactly one honest ending."""

import pytest
import trio
import trio.testing
from support.gateways import (
    COMMENT,
    DONE,
    END,
    ERROR,
    FINISH,
    FLOWING,
    FRAMES,
    GOOD_STREAM,
    ROLE,
    STREAM,
    STREAMED,
    RecordingReply,
    Rig,
    a_call,
    chunk,
    delta,
    event,
    one,
    tok,
    two,
    unblamed,
)
from support.servers import CLOSE

from trillm.gateway.journey import Outcome
from trillm.gateway.limits import Limits
from trillm.registry.document import Budgets


async def test_a_stream_goes_through_untouched(autojump_clock, nursery):
    rig = one(nursery, GOOD_STREAM)
    reply = await rig.ask(a_call(**STREAMED))
    assert (reply.status, reply.body, reply.length, reply.endings) == (200, b"".join(FRAMES), None, ["finish"])
    assert reply.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert reply.headers[b"cache-control"] == b"no-cache"
    assert rig.journey.outcome is Outcome.OK
    assert await rig.left() == {}
    assert rig.connections.idle_count() == 1
    assert rig.pool.members["one"].first_token.percentile(1) == pytest.approx(0, abs=0.01)


# ── never twice after content ─────────────────────────────────────────────────────────────────────────────────────


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


# ── the end of a stream ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_missing_done_is_added_when_the_server_had_finished(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("Hi"), FINISH) + END)
    reply = await rig.ask(a_call(**STREAMED))
    assert reply.body == tok("Hi") + FINISH + DONE
    assert (reply.endings, rig.journey.outcome) == (["finish"], Outcome.OK)


async def test_a_done_without_an_empty_line_after_it_is_one(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("Hi")), 1.0, chunk(DONE.strip()) + END)
    reply = await rig.ask(a_call(**STREAMED))
    assert (reply.body, reply.endings, reply.misused) == (tok("Hi") + DONE, ["finish"], [])


async def test_a_connection_whose_end_comes_a_moment_after_done_is_used_again(autojump_clock, nursery):
    rig = one(nursery, STREAM + chunk(tok("Hi"), DONE), 0.1, END)
    await rig.ask(a_call(**STREAMED))
    assert rig.connections.idle_count() == 1


async def test_a_half_open_server_takes_others_as_soon_as_its_probe_streams(autojump_clock, nursery):
    rig = one(nursery, *FLOWING, chunk(DONE) + END)
    member = rig.pool.members["one"]
    for _ in range(3):
        member.breaker.failed(trio.current_time())
    await trio.sleep(1)
    nursery.start_soon(rig.ask, a_call(**STREAMED))
    await trio.sleep(1)
    assert (await rig.ask(a_call(**STREAMED))).status == 200
    await trio.sleep(1)
    assert [journey.outcome for journey in rig.journeys] == [Outcome.OK] * 2


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


# ── in time ───────────────────────────────────────────────────────────────────────────────────────────────────────


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


async def test_nor_is_it_where_only_a_keep_alive_came_meanwhile(autojump_clock, nursery):
    rig = one(nursery, STREAM, chunk(tok("a")), 1.0, chunk(COMMENT), 7.0, chunk(FINISH, DONE) + END)
    reply = await rig.ask(a_call(**STREAMED), RecordingReply(takes_s=3))
    assert reply.events()[-1] == "[DONE]"


async def test_a_frame_that_comes_in_pieces_is_no_stall(autojump_clock, nursery):
    frame = tok("a long story")
    pieces = [step for byte in range(0, 60, 20) for step in (3.0, chunk(frame[byte : byte + 20]))]
    rig = one(nursery, STREAM + chunk(tok("a")), *pieces, 3.0, chunk(frame[60:]), chunk(DONE) + END)
    assert (await rig.ask(a_call(**STREAMED))).body == tok("a") + frame + DONE


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


# ── what servers leave out ──────────────────────────────────────────────────────────────────────────────────────────


USAGE = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 5})
COUNTED = STREAM + b"".join(map(chunk, (ROLE, tok("a"), FINISH, USAGE, DONE))) + END


async def test_token_counts_that_nobody_asked_for_are_kept_for_the_books(autojump_clock, nursery):
    rig = one(nursery, COUNTED)
    reply = await rig.ask(a_call(**STREAMED))
    assert reply.body == ROLE + tok("a") + FINISH + DONE
    assert rig.journey.usage.completion_tokens == 5


@pytest.mark.parametrize("options", [{"include_usage": True}, {}, {"include_usage": False}])
async def test_who_says_anything_about_them_gets_what_the_server_sends(options, autojump_clock, nursery):
    reply = await one(nursery, COUNTED).ask(a_call(**STREAMED, stream_options=options))
    assert USAGE in reply.body


async def test_thoughts_and_calls_are_mended_on_their_way(autojump_clock, nursery):
    pieces = [
        delta(reasoning="hm"),
        event(choices=[{"index": 0, "delta": {"tool_calls": [{"id": "a", "function": {"name": "f"}}]}}]),
        event(choices=[{"index": 0, "delta": {"tool_calls": [{"id": "b", "function": {"name": "f"}}]}}]),
        FINISH,
        DONE,
    ]
    reply = await one(nursery, STREAM, *map(chunk, pieces), END).ask(a_call(**STREAMED))
    deltas = [value["choices"][0]["delta"] for value in reply.events()[:3]]
    assert deltas[0] == {"reasoning": "hm", "reasoning_content": "hm"}
    assert [said["tool_calls"][0]["index"] for said in deltas[1:]] == [0, 1]
