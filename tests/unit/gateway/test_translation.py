"""Calls in other dialects: said as chat completions to servers that know nothing else, passed on to those that do."""

import json

import pytest
from attrs import evolve
from support.cancelling import run_cancelled_at
from support.dialects import DONE, USAGE, call, chunk, events
from support.gateways import END, ERROR, STREAM, RecordingReply, Rig, a_call, one, two
from support.gateways import chunk as piece
from support.pools import found
from support.servers import CLOSE, ok

from trillm.gateway.journey import Outcome
from trillm.models import Operation

RESPONSES, MESSAGES = Operation.RESPONSES, Operation.MESSAGES
DIALECTS = [RESPONSES, MESSAGES]
HELLO = chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo"})
ENDED = chunk({}, "stop"), USAGE, DONE
USED = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
CHAT = ok(json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m", "usage": USED,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
}).encode())  # fmt: skip
TYPED = {
    RESPONSES: [("response.created", {"response": {}}), ("response.output_text.delta", {"delta": "x"})],
    MESSAGES: [("message_start", {"message": {}}), ("content_block_delta", {"index": 0, "delta": {"text": "x"}})],
}
GOOD_END = {
    RESPONSES: ("response.completed", {"response": {"usage": {"input_tokens": 3, "output_tokens": 2}}}),
    MESSAGES: ("message_stop", {}),
}


def typed(*told) -> bytes:
    return b"".join(f"event: {name}\ndata: {json.dumps({'type': name, **value})}\n\n".encode() for name, value in told)


def a_native(nursery, operation, *steps) -> Rig:
    """A server that speaks the dialect."""
    rig = one(nursery, *steps)
    rig.pool.probed(rig.pool.members["one"], evolve(found("m"), speaks=frozenset({operation})))
    return rig


def asked(rig, server="one"):
    """The path and the body of the last request that a server got."""
    head, _, body = rig.servers[server].requests[-1].partition(b"\r\n\r\n")
    return head.split()[1].decode(), json.loads(body)


# ── to servers that only know chat completions ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", DIALECTS)
async def test_a_whole_answer_is_translated_both_ways(operation, autojump_clock, nursery):
    rig = one(nursery, CHAT)
    reply = await rig.ask(a_call(operation))
    path, body = asked(rig)
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    told = json.loads(reply.body)
    said = told["content"] if operation is MESSAGES else told["output"][0]["content"]
    assert (reply.status, said[0]["text"]) == (200, "Hello")
    assert reply.headers[b"content-type"] == b"application/json"
    assert (rig.journey.usage.prompt_tokens, rig.journey.usage.completion_tokens) == (10, 4)
    assert (rig.journey.outcome, rig.journey.call.operation) == (Outcome.OK, operation)
    assert await rig.left() == {}


@pytest.mark.parametrize("operation", DIALECTS)
async def test_a_stream_is_retold_to_its_end(operation, autojump_clock, nursery):
    rig = one(nursery, STREAM, *(piece(frame) for frame in (*HELLO, *ENDED)), END)
    reply = await rig.ask(a_call(operation, stream=True))
    told = events(reply.body)
    assert told[0][0] in {"response.created", "message_start"}
    assert told[-1][0] in {"response.completed", "message_stop"}
    assert b"[DONE]" not in reply.body
    assert reply.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert asked(rig)[1]["stream_options"] == {"include_usage": True}
    assert (rig.journey.usage.prompt_tokens, rig.journey.usage.completion_tokens) == (10, 4)
    assert rig.journey.outcome is Outcome.OK
    assert await rig.left() == {}


@pytest.mark.parametrize("operation", DIALECTS)
async def test_a_stream_that_ends_with_its_finish_reason_is_complete(operation, autojump_clock, nursery):
    rig = one(nursery, STREAM, piece(*HELLO, chunk({}, "stop")), END)
    reply = await rig.ask(a_call(operation, stream=True))
    assert events(reply.body)[-1][0] in {"response.completed", "message_stop"}
    assert reply.endings == ["finish"]


BREAKS = {
    "cut": [CLOSE],
    "cut within an event": [piece(b'data: {"choices":[{"delta":{"con'), CLOSE],
    "the end within an event": [piece(b'data: {"choices":[{"delta":{"con'), END],
    "the end": [END],
    "an error": [piece(ERROR), END],
    "no chunk": [
        piece(b'data: {"choices":[3]}\n\n', chunk({"content": "x"})),
        piece(b'data: {"choices":[{"delta":{"tool_calls":3}}]}\n\n'),
        END,
    ],
    "a stall": [60.0],
}


@pytest.mark.parametrize("operation", DIALECTS)
@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS.keys())
async def test_a_stream_that_breaks_off_ends_in_the_callers_words(operation, broken, autojump_clock, nursery):
    rig = one(nursery, STREAM, piece(*HELLO), 0.1, *broken)
    reply = await rig.ask(a_call(operation, stream=True))
    told = events(reply.body)
    name, value = told[-1]
    assert name == ("error" if operation is MESSAGES else "response.failed")
    message = (value if operation is MESSAGES else value["response"])["error"]["message"]
    assert message.endswith(rig.journey.error)
    assert [name for name, _ in told].count(name) == 1
    assert not {"message_stop", "response.completed"} & {name for name, _ in told}
    assert reply.endings == ["finish"]
    assert await rig.left() == {}


@pytest.mark.parametrize("operation", DIALECTS)
async def test_before_the_first_content_another_server_is_tried(operation, autojump_clock, nursery):
    rig = two(nursery, [STREAM, piece(HELLO[0]), CLOSE], [STREAM, piece(*HELLO, *ENDED), END])
    reply = await rig.ask(a_call(operation, stream=True))
    assert events(reply.body)[-1][0] in {"response.completed", "message_stop"}
    assert [name for name, _ in events(reply.body)].count("response.created") == (operation is RESPONSES)
    assert rig.journey.attempts <= 2


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        (op, answer)
        for op in DIALECTS
        for answer in (b"{}", b"[]", b"<html>", b"", b'{"choices":[]}', b'{"choices":"x"}')
    ],
)
async def test_what_is_no_chat_completion_is_the_servers_failure(operation, answer, autojump_clock, nursery):
    rig = one(nursery, ok(answer))
    reply = await rig.ask(a_call(operation))
    assert reply.status == 502
    assert reply.error()["code"] == "upstream_failed"
    assert await rig.left() == {}


async def test_what_cannot_be_said_is_refused_and_no_server_is_asked(autojump_clock, nursery):
    rig = one(nursery, CHAT)
    reply = await rig.ask(a_call(RESPONSES, previous_response_id="resp_1"))
    assert (reply.status, reply.error()["param"]) == (400, "previous_response_id")
    assert rig.servers["one"].requests == []
    assert rig.journey.outcome is Outcome.REFUSED
    assert await rig.left() == {}


async def test_errors_come_in_the_callers_envelope(autojump_clock, nursery):
    reply = await one(nursery, CHAT).ask(a_call(MESSAGES, (b"x-request-id", b"req_7"), model="unknown"))
    told = json.loads(reply.body)
    assert (reply.status, told["type"], told["request_id"]) == (404, "error", "req_7")
    assert told["error"]["type"] == "not_found_error"
    assert reply.headers[b"request-id"] == reply.headers[b"x-request-id"] == b"req_7"


async def test_the_servers_own_name_for_the_model_is_sent(autojump_clock, nursery):
    rig = one(nursery, CHAT)
    await rig.ask(a_call(MESSAGES, model="one/m"))
    assert asked(rig)[1]["model"] == "m"


async def test_calls_of_tools_are_retold(autojump_clock, nursery):
    frames = chunk(call(0, '{"a":', call_id="c", name="f")), chunk(call(0, "1}")), chunk({}, "tool_calls"), DONE
    rig = one(nursery, STREAM, *map(piece, frames), END)
    told = events((await rig.ask(a_call(MESSAGES, stream=True))).body)
    assert told[1][1]["content_block"] == {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    assert told[-2][1]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("operation", DIALECTS)
async def test_cancelled_anywhere_it_leaves_nothing_behind(operation, stream, autojump_clock, nursery):
    wait = 1
    while True:
        rig = one(nursery, *([STREAM, *map(piece, (*HELLO, *ENDED)), END] if stream else [CHAT]))
        reached = await run_cancelled_at(wait, lambda rig=rig: rig.ask(a_call(operation, stream=stream)))
        assert await rig.left() == {}
        if not reached:
            break
        wait += 1
    assert wait > 3


# ── to servers that speak the dialect ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", DIALECTS)
async def test_a_server_that_speaks_the_dialect_is_asked_in_it(operation, autojump_clock, nursery):
    answer = b'{"id":"x", "output":[], "content":[], "usage":{"input_tokens":3,"output_tokens":2}}'
    rig = a_native(nursery, operation, ok(answer))
    reply = await rig.ask(a_call(operation, (b"anthropic-version", b"2023-06-01"), previous_response_id="r"))
    path, body = asked(rig)
    assert path == ("/v1/messages" if operation is MESSAGES else "/v1/responses")
    assert body["previous_response_id"] == "r"
    assert b"anthropic-version: 2023-06-01" in rig.servers["one"].requests[0]
    assert reply.body == answer
    assert (rig.journey.usage.prompt_tokens, rig.journey.usage.completion_tokens) == (3, 2)


@pytest.mark.parametrize("operation", DIALECTS)
async def test_its_stream_goes_through_untouched(operation, autojump_clock, nursery):
    sent = typed(*TYPED[operation], GOOD_END[operation])
    rig = a_native(nursery, operation, STREAM, piece(sent[:50]), piece(sent[50:]), END)
    reply = await rig.ask(a_call(operation, stream=True))
    assert reply.body == sent
    assert rig.journey.outcome is Outcome.OK
    assert await rig.left() == {}


@pytest.mark.parametrize("operation", DIALECTS)
@pytest.mark.parametrize(
    "broken",
    [[CLOSE], [piece(b"event: me"), CLOSE], [END], [piece(typed(("error", {"message": "it broke"}))), END], [60.0]],
)
async def test_its_stream_without_an_honest_end_ends_with_an_error(operation, broken, autojump_clock, nursery):
    rig = a_native(nursery, operation, STREAM, piece(typed(*TYPED[operation])), 0.1, *broken)
    reply = await rig.ask(a_call(operation, stream=True))
    told = events(reply.body)
    assert [name for name, _ in told] == [*(name for name, _ in TYPED[operation]), "error"]
    assert told[-1][1]["error"]["message"].endswith(rig.journey.error)
    assert reply.endings == ["finish"]


@pytest.mark.parametrize("operation", DIALECTS)
async def test_its_error_before_any_content_is_an_http_error(operation, autojump_clock, nursery):
    rig = a_native(nursery, operation, STREAM, piece(typed(TYPED[operation][0], ("error", {"message": "no"}))), END)
    assert (await rig.ask(a_call(operation, stream=True))).status == 502


# ── who can be asked ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", [Operation.RESPONSE_TOKENS, Operation.MESSAGE_TOKENS])
async def test_tokens_are_counted_by_who_can(operation, autojump_clock, nursery):
    answer = b'{"input_tokens":3}'
    rig = two(nursery, [CHAT], [ok(answer)])
    speaking = evolve(found("m"), speaks=frozenset({operation}))
    rig.pool.probed(rig.pool.members["two"], speaking)
    for _ in range(3):
        assert (await rig.ask(a_call(operation))).body == answer
    assert rig.servers["one"].requests == []


@pytest.mark.parametrize("operation", [Operation.RESPONSE_TOKENS, Operation.MESSAGE_TOKENS])
async def test_where_nobody_can_the_caller_is_told(operation, autojump_clock, nursery):
    reply = await one(nursery, CHAT).ask(a_call(operation))
    assert (reply.status, reply.error()["code"]) == (400, "model_not_capable")
    assert "count tokens" in reply.error()["message"]


async def test_what_needs_memory_goes_to_who_has_one(autojump_clock, nursery):
    rig = two(nursery, [CHAT], [ok(b'{"output":[]}')])
    rig.pool.probed(rig.pool.members["two"], evolve(found("m"), speaks=frozenset({RESPONSES})))
    for _ in range(3):
        assert (await rig.ask(a_call(RESPONSES, previous_response_id="r"))).status == 200
    assert rig.servers["one"].requests == []


async def test_a_client_that_leaves_is_no_failure(autojump_clock, nursery):
    rig = one(nursery, STREAM, *map(piece, (*HELLO, *ENDED)), END)
    await rig.ask(a_call(MESSAGES, stream=True), RecordingReply(leaves_at="send"))
    assert rig.journey.outcome is Outcome.CLIENT_GONE
    assert await rig.left() == {}
