"""Whatever nonsense a server answers becomes one clean 502 that names it, in every dialect."""

import pytest
from support.gateways import END, STREAM, a_call, chunk, one
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
}
STREAMS = {
    "a whole answer instead": [ok(b'{"choices":[]}', b"content-type: application/json\r\n")],
    "HTML with 200": WHOLE["HTML with 200"],
    "no content type": [ok(b"data: {}\n\n")],
    "nothing in it": [STREAM + END],
    "comments alone": [STREAM + chunk(b": hello\n\n") + END],
    "no events": [STREAM + chunk(HTML) + END],
    "broken chunks": [STREAM + b"zz\r\n", CLOSE],
    "an endless header": WHOLE["an endless header"],
}
OPERATIONS = [Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES]


async def is_refused_cleanly(nursery, steps, call):
    rig = one(nursery, *steps)
    reply = await rig.ask(call)
    error = reply.error()
    assert reply.status == 502
    assert error["message"].startswith("Server 'one': ")
    assert error["code"] == "upstream_failed"
    assert reply.headers[b"x-trillm-server"] == b"one"
    assert reply.endings == ["finish"]
    assert rig.journey.outcome is Outcome.FAILED
    assert await rig.left() == {}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("steps", WHOLE.values(), ids=WHOLE.keys())
async def test_a_whole_answer_that_is_nonsense(operation, steps, autojump_clock, nursery):
    await is_refused_cleanly(nursery, steps, a_call(operation))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("steps", STREAMS.values(), ids=STREAMS.keys())
async def test_a_stream_that_is_nonsense(operation, steps, autojump_clock, nursery):
    await is_refused_cleanly(nursery, steps, a_call(operation, stream=True))
