"""Requests made to confuse two servers in a row, to exhaust one, or to crash it: same verdict from every face."""

import json
import re

import pytest
import trio
from support.running import Sim, chat

BODY = json.dumps(chat()).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
AS_CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)

REFUSED = {
    "length and chunks": HEAD + LENGTH + CHUNKED + b"\r\n" + AS_CHUNK + b"0\r\n\r\n",
    "two lengths": HEAD + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "a signed length": HEAD + b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY,
    "a length that is no number": HEAD + b"Content-Length: 1e3\r\n\r\n" + BODY,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "an unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + BODY,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + AS_CHUNK + b"0\r\n\r\n",
    "chunked in disguise": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + AS_CHUNK + b"0\r\n\r\n",
    "a bad chunk size": HEAD + CHUNKED + b"\r\nzz\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk longer than said": HEAD + CHUNKED + b"\r\n5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a folded header": HEAD + b"X-A: 1\r\n  2\r\n" + LENGTH + b"\r\n" + BODY,
    "a blank before the colon": HEAD + b"Content-Length : %d\r\n\r\n" % len(BODY) + BODY,
    "bare line feeds": (HEAD + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "a bare carriage return": HEAD + b"X-A: 1\r2\r\n" + LENGTH + b"\r\n" + BODY,
    "a null byte in a header": HEAD + b"X-A: a\x00b\r\n" + LENGTH + b"\r\n" + BODY,
    "a null byte in the target": HEAD.replace(b"/chat", b"/ch\x00at") + LENGTH + b"\r\n" + BODY,
    "no host": HEAD.replace(b"Host: 127.0.0.1\r\n", b"") + LENGTH + b"\r\n" + BODY,
    "two hosts": HEAD + b"Host: evil.example\r\n" + LENGTH + b"\r\n" + BODY,
    "another host in the target": HEAD.replace(b"POST /", b"POST http://evil.example/") + LENGTH + b"\r\n" + BODY,
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "a nonsense method": HEAD.replace(b"POST", b"PO ST") + LENGTH + b"\r\n" + BODY,
    "an unknown version": HEAD.replace(b"HTTP/1.1", b"HTTP/7.3") + LENGTH + b"\r\n" + BODY,
    "a head without end": HEAD + b"X-A: " + b"a" * 70_000,
    "a thousand headers": HEAD + b"X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000,
}


async def connect(trillm) -> trio.SocketStream:
    host, port = trillm.url.removeprefix("http://").split(":")
    return await trio.open_tcp_stream(host, int(port))


async def exchange(trillm, request: bytes, *, within_s: float = 5) -> bytes:
    """Send raw bytes; return all that comes back until the server closes."""
    answer = b""
    async with await connect(trillm) as stream:
        with trio.fail_after(within_s):
            await stream.send_all(request)
            while data := await stream.receive_some():
                answer += data
    return answer


@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED)
async def test_an_ambiguous_or_broken_request_is_refused_and_nothing_is_forwarded(trillm, face, request_bytes):
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer = await exchange(trillm, request_bytes + smuggled)
    status = int(answer.split(b" ", 2)[1])
    assert status in {400, 403, 413}, answer[:200]
    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1, "the second request was answered too"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    # A body that turns out broken after its head was handed over is refused by Hypercorn, without a word.
    assert json.loads(body)["error"]["message"] if body or face != "app" else True
    assert (await trillm.sim_stats("one"))["started"] == 0


async def test_pipelined_requests_are_answered_in_order(trillm):
    one = HEAD + LENGTH + b"\r\n" + BODY
    last = HEAD + LENGTH + b"Connection: close\r\n\r\n" + BODY
    answer = await exchange(trillm, one + one + last)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert (await trillm.sim_stats("one"))["started"] == 3


async def test_a_connection_may_change_between_lane_and_application(trillm):
    ask = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    last = HEAD + LENGTH + b"Connection: close\r\n\r\n" + BODY
    answer = await exchange(trillm, HEAD + LENGTH + b"\r\n" + BODY + ask + last)
    assert answer.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize("path", [b"/", b"/v1/chat/completions", b"/mcps"])
async def test_a_websocket_is_refused_in_words(trillm, path):
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AA==\r\n"
    answer = await exchange(trillm, b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + upgrade + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"WebSocket" in answer


async def test_another_upgrade_is_ignored(trillm):
    upgrade = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = await exchange(trillm, HEAD + LENGTH + upgrade + b"\r\n" + BODY)
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_chunked_body_is_read(trillm):
    pieces = b"".join(b"%x\r\n%b\r\n" % (1, BODY[i : i + 1]) for i in range(len(BODY)))
    answer = await exchange(trillm, HEAD + CHUNKED + b"Connection: close\r\n\r\n" + pieces + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


async def test_expect_continue_is_answered_before_the_body(trillm):
    async with await connect(trillm) as stream:
        await stream.send_all(HEAD + LENGTH + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        with trio.fail_after(2):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
            await stream.send_all(BODY)
            answer = b""
            while data := await stream.receive_some():
                answer += data
        assert answer.startswith(b"HTTP/1.1 200")


async def test_one_byte_at_a_time_is_read(trillm):
    request = HEAD + LENGTH + b"Connection: close\r\n\r\n" + BODY
    async with await connect(trillm) as stream:
        for i in range(len(request)):
            await stream.send_all(request[i : i + 1])
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("framing", [b"Content-Length: 3000\r\n\r\n", CHUNKED + b"\r\nbb8\r\n"])
async def test_a_body_over_the_limit_is_refused_before_it_is_read(run_trillm, framing):
    async with run_trillm({"one": Sim()}, max_body_bytes=2000) as trillm:
        answer = await exchange(trillm, HEAD + framing + b"a" * 3000)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"2000 bytes" in answer


async def test_a_large_image_passes(trillm):
    image = "data:image/png;base64," + "A" * 20_000_000
    parts = [{"type": "image_url", "image_url": {"url": image}}]
    reply = await trillm.post("/v1/chat/completions", chat(messages=[{"role": "user", "content": parts}]))
    assert reply.status_code == 200
    assert "1 image" in reply.json()["choices"][0]["message"]["content"]


async def test_a_client_that_does_not_read_is_not_waited_for_by_others(trillm):
    body = json.dumps(chat(stream=True, x_sim={"tokens": 10_000})).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with await connect(trillm) as deaf:
        await deaf.send_all(request)
        await trio.sleep(0.3)
        with trio.fail_after(2):
            assert (await trillm.post("/v1/chat/completions", chat())).status_code == 200
