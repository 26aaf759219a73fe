"""Requests made to confuse two servers in a row, to exhaust one, or to crash it: same verdict from every face."""

import json
import re
from contextlib import suppress
from functools import partial

import attrs
import pytest
import trio
from support.hostile import BODY, CASES, CHUNKED, CLOSE, LAST, LENGTH, PLAIN, SMUGGLED, Case, head
from support.running import Sim, Trillm, chat

from trillm.api.app import Site
from trillm.door.lane import LaneSettings

#: Statuses after which nothing more is read.
REFUSED = (400, 413)
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
STATUS = rb"HTTP/1\.1 (\d{3}) "


async def exchange(trillm: Trillm, request: bytes, *, within_s: float = 5) -> bytes:
    """Send raw bytes; return all that comes back until the server closes."""
    answer = b""
    async with await trillm.connect() as stream:
        with trio.fail_after(within_s):
            with suppress(trio.BrokenResourceError):  # it may have heard enough
                await stream.send_all(request)
            while data := await stream.receive_some():
                answer += data
    return answer


def statuses(answer: bytes) -> tuple[int, ...]:
    return tuple(map(int, re.findall(STATUS, answer)))


async def replay(trillm: Trillm, case: Case, before: bytes = b"") -> tuple[tuple[int, ...], int, bytes]:
    """Send a case; return the statuses of the answers, how many calls were forwarded, and the last answer."""
    earlier = await trillm.sim_stats("one")
    refused = case.statuses[-1] in REFUSED
    answer = await exchange(trillm, before + case.raw + SMUGGLED if refused else before + case.raw)
    later = await trillm.sim_stats("one")
    return statuses(answer), later["started"] - earlier["started"], re.split(STATUS, answer)[-1]


@pytest.fixture
def no_lingering(monkeypatch):
    """Under TLS a refused client and the lane wait for each other to close."""
    monkeypatch.setattr("trillm.door.lane.LINGER_S", 0.1)


async def test_every_face_gives_the_same_verdicts_and_forwards_nothing_else(trillm, face, no_lingering):
    wrong = []
    for case in CASES:
        answered, forwarded, last = await replay(trillm, case)
        if (answered, forwarded) != (case.statuses, case.forwarded):
            wrong.append(f"{case.name}: {answered}, {forwarded} forwarded, not {case.statuses}, {case.forwarded}")
        headers, _, body = last.partition(b"\r\n\r\n")
        if b"connection: close" not in headers.lower():
            wrong.append(f"{case.name}: does not say that it closes")
        # A body that turns out broken after its head was handed over is refused by Hypercorn, without a word.
        if case.statuses[-1] >= 400 and (body or face != "app") and b'"error":{"message":"' not in body:
            wrong.append(f"{case.name}: refused without a word: {body[:200]!r}")
    assert not wrong, "\n".join(wrong)
    assert (await trillm.post("/v1/chat/completions", chat())).status_code == 200


async def test_a_connection_that_was_handed_over_is_judged_alike(trillm, no_lingering):
    """What follows a request of the application's is read by Hypercorn, which takes more than the lane does."""
    wrong = []
    for case in CASES:
        answered, forwarded, _ = await replay(trillm, case, before=MODELS)
        # Its own refusal of a large head says 400.
        verdicts = tuple(400 if status in REFUSED else status for status in answered)
        expected = (200, *(400 if status in REFUSED else status for status in case.statuses))
        if (verdicts, forwarded) != (expected, case.forwarded):
            wrong.append(f"{case.name}: {answered}, {forwarded} forwarded, not {expected}, {case.forwarded}")
    assert not wrong, "\n".join(wrong)


async def test_a_connection_may_change_between_lane_and_application(trillm):
    assert statuses(await exchange(trillm, PLAIN + MODELS + LAST)) == (200, 200, 200)


@pytest.mark.parametrize(("sent", "limit"), [(b"", "idle_s"), (b"POST /v1/chat", "head_s")], ids=["idle", "head"])
async def test_a_client_that_sends_too_slowly_is_let_go(trillm, sent, limit):
    trillm.server.lane.settings = attrs.evolve(trillm.server.lane.settings, **{limit: 0.2})
    assert await exchange(trillm, sent) == b""


async def test_a_body_that_comes_too_slowly_is_given_up(run_trillm, monkeypatch):
    monkeypatch.setattr("trillm.app.Site", partial(Site, body_s=0.2))
    monkeypatch.setattr("trillm.app.LaneSettings", partial(LaneSettings, body_s=0.2))
    async with run_trillm({"one": Sim()}) as trillm:
        assert statuses(await exchange(trillm, head(b"Content-Length: 50") + b"{")) == (408,)
        assert (await trillm.sim_stats("one"))["started"] == 0


async def test_a_client_that_does_not_finish_its_handshake_is_let_go(trillm, face):
    if face != "lane+tls":
        pytest.skip("there is no handshake without TLS")
    trillm.server.door.settings = attrs.evolve(trillm.server.door.settings, handshake_s=0.2)
    port = int(trillm.url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"\x16\x03\x01")
        with trio.fail_after(3):
            assert await stream.receive_some() == b""


async def test_a_reader_that_stops_is_cut(trillm, face):
    if face == "lane+tls":
        pytest.skip("a socket of its own, with little room, speaks no TLS; the limit is the stream's below it")
    trillm.server.door.settings = attrs.evolve(trillm.server.door.settings, write_stall_s=0.3)
    body = json.dumps(chat(stream=True, x_sim={"tokens": 10_000})).encode()
    with trio.socket.socket() as deaf:
        deaf.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await deaf.connect(("127.0.0.1", int(trillm.url.rpartition(":")[2])))
        await deaf.send(head(b"Content-Length: %d" % len(body)) + body)
        with trio.fail_after(5):
            while not trillm.gateway.running:
                await trio.sleep(0.01)
            while trillm.gateway.running:
                await trio.sleep(0.05)
    await trillm.settled("one", within_s=1)


@pytest.mark.parametrize("path", [b"/", b"/v1/chat/completions", b"/mcps"])
async def test_a_websocket_is_refused_in_words(trillm, path):
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AA==\r\n"
    answer = await exchange(trillm, b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + upgrade + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"WebSocket" in answer


async def test_another_upgrade_is_ignored(trillm):
    upgrade = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = await exchange(trillm, head(LENGTH, *upgrade.split(b"\r\n")[:-1]) + BODY)
    assert answer.startswith(b"HTTP/1.1 200")


async def test_expect_continue_is_answered_before_the_body(trillm):
    async with await trillm.connect() as stream:
        await stream.send_all(head(LENGTH, b"Expect: 100-continue", CLOSE))
        with trio.fail_after(2):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
            await stream.send_all(BODY)
            answer = b""
            while data := await stream.receive_some():
                answer += data
        assert answer.startswith(b"HTTP/1.1 200")


async def test_one_byte_at_a_time_is_read(trillm):
    async with await trillm.connect() as stream:
        for i in range(len(LAST)):
            await stream.send_all(LAST[i : i + 1])
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("framing", [head(b"Content-Length: 3000"), head(CHUNKED) + b"bb8\r\n"])
async def test_a_body_over_the_limit_is_refused_before_it_is_read(run_trillm, framing):
    async with run_trillm({"one": Sim()}, max_body_bytes=2000) as trillm:
        answer = await exchange(trillm, framing + b"a" * 3000)
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
    request = head(b"Content-Length: %d" % len(body)) + body
    async with await trillm.connect() as deaf:
        await deaf.send_all(request)
        await trio.sleep(0.3)
        with trio.fail_after(2):
            assert (await trillm.post("/v1/chat/completions", chat())).status_code == 200
