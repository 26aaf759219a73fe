"""Whatever nonsense a server answers becomes one clean 502 that names it, in every dialect, translated or not."""

import json

import pytest
from attrs import evolve
from support.gateways import END, STREAM, a_call, chunk, one
from support.pools import found
from support.servers import CLOSE, ok

from trillm.gateway.journey import Outcome
from trillm.models import Operation

HEAD = b"HTTP/1.1 200 OK\r\n"
HTML = b"<html><body>Welcome to nginx!</body></html>"
WHOLE = {
    "HTML with 200": [ok(HTML, b"content-type: text/html\r\n")],
    "an empty body": [ok(b"")],
    "no JSON": [ok(b'{"choices":')],
    "JSON, but no object": [ok(b'["a"]')],
    "a number": [ok(b"3")],
    "bad UTF-8": [ok(b'{"a":"\xff\xfe"')],
    "nested without end": [ok(b"[" * 200_000)],
    "shorter than it said": [HEAD + b"content-length: 99\r\n\r\n{}", CLOSE],
    "a length that is none": [HEAD + b"content-length: many\r\n\r\n{}", CLOSE],
    "two lengths": [HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", CLOSE],
    "an endless header": [HEAD + b"x: " + b"y" * 300_000, CLOSE],
    "no HTTP": [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE],
    "nothing": [CLOSE],
    "an error inside a 200": [ok(b'{"error":"it broke"}')],
    "an object of another kind": [ok(b'{"detail":{"status":"ready"}}')],
}
STREAMS = {
    "a whole answer instead": [ok(b'{"choices":[]}', b"content-type: application/json\r\n")],
    "HTML with 200": WHOLE["HTML with 200"],
    "no content type": [ok(b"data: {}\n\n")],
    "nothing in it": [STREAM + END],
    "comments alone": [STREAM + chunk(b": hello\n\n") + END],
    "no events": [STREAM + chunk(HTML) + END],
    "an event that breaks off": [STREAM + chunk(b'data: {"choices":[{"delta":{"con'), CLOSE],
    "an event that is no JSON": [STREAM + chunk(b"data: {\n\n") + END],
    "an error that is none": [STREAM + chunk(b'data: {"error":5}\n\n') + END],
    "an event without end": [STREAM, *[chunk(b"data: " + b"x" * 1_000_000)] * 20, CLOSE],
    "broken chunks": [STREAM + b"zz\r\n", CLOSE],
    "an endless header": WHOLE["an endless header"],
}
STREAMED = [Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES]
COUNTING = {Operation.RESPONSE_TOKENS, Operation.MESSAGE_TOKENS}
ANTHROPICS = {Operation.MESSAGES, Operation.MESSAGE_TOKENS}


async def is_refused_cleanly(nursery, steps, call, *, spoken):
    rig = one(nursery, *steps)
    if spoken:
        rig.pool.probed(rig.pool.members["one"], evolve(found("m"), speaks=frozenset({call.operation})))
    reply = await rig.ask(call)
    error = reply.error()
    assert reply.status == 502
    assert error["message"].startswith("Server 'one': ")
    assert error["code"] == "upstream_failed"
    told = json.loads(reply.body)
    if call.operation in ANTHROPICS:
        assert (told["type"], error["type"]) == ("error", "api_error")
    if call.operation is Operation.RERANK:
        assert told["message"] == error["message"]
    assert reply.headers[b"x-trillm-server"] == b"one"
    assert reply.endings == ["finish"]
    assert rig.journey.outcome is Outcome.FAILED
    assert await rig.left() == {}


def asked_for(operations):
    """Each operation, and whether the server speaks its dialect; where that makes no difference, it does not."""
    dialects = {Operation.RESPONSES, Operation.MESSAGES}
    return [(op, spoken) for op in operations for spoken in ({op in COUNTING} | ({True} if op in dialects else set()))]


@pytest.mark.parametrize(("operation", "spoken"), asked_for(Operation))
@pytest.mark.parametrize("steps", WHOLE.values(), ids=WHOLE.keys())
async def test_a_whole_answer_that_is_nonsense(operation, spoken, steps, autojump_clock, nursery):
    await is_refused_cleanly(nursery, steps, a_call(operation), spoken=spoken)


@pytest.mark.parametrize(("operation", "spoken"), asked_for(STREAMED))
@pytest.mark.parametrize("steps", STREAMS.values(), ids=STREAMS.keys())
async def test_a_stream_that_is_nonsense(operation, spoken, steps, autojump_clock, nursery):
    await is_refused_cleanly(nursery, steps, a_call(operation, stream=True), spoken=spoken)
