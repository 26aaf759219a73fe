"""What only a hand-held connection can get wrong: slow readers, slow writers, idle ones, too many."""

import json
from contextlib import suppress

import pytest
import trio
from support.running import Sim, chat, events, running

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def trillm(tmp_path):
    async with running(tmp_path, {"one": Sim()}) as trillm:
        yield trillm


async def connect(trillm) -> trio.SocketStream:
    host, port = trillm.url.removeprefix("http://").split(":")
    return await trio.open_tcp_stream(host, int(port))


def request(**body) -> bytes:
    raw = json.dumps(chat(**body)).encode()
    return HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(raw) + raw


async def read_all(stream, *, pause_s: float = 0, at_once: int = 65536) -> bytes:
    answer = b""
    while data := await stream.receive_some(at_once):
        answer += data
        await trio.sleep(pause_s)
    return answer


def unchunked(answer: bytes) -> str:
    body, rest = b"", answer.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        if size == b"0":
            break
    return body.decode()


async def test_a_slow_reader_gets_every_token_in_order(trillm):
    """Its receive window is small and it pauses, so the pump must hand the stream back again and again."""
    async with await connect(trillm) as quick:
        await quick.send_all(request(stream=True, x_sim={"tokens": 5000, "itl_s": 0.00001}))
        expected = [e["choices"][0]["delta"] for e in events(unchunked(await read_all(quick))) if e != "[DONE]"]
    slow_socket = trio.socket.socket()
    slow_socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    host, port = trillm.url.removeprefix("http://").split(":")
    await slow_socket.connect((host, int(port)))
    async with trio.SocketStream(slow_socket) as slow:
        await slow.send_all(request(stream=True, x_sim={"tokens": 5000, "itl_s": 0.00001}))
        got = events(unchunked(await read_all(slow, pause_s=0.001, at_once=4096)))
    assert got[-1] == "[DONE]"
    assert [e["choices"][0]["delta"] for e in got[:-1]] == expected


async def test_what_waits_for_a_slow_reader_is_bounded(trillm):
    async with await connect(trillm) as deaf:
        await deaf.send_all(request(stream=True, x_sim={"tokens": 10_000}))
        await trio.sleep(0.5)
        stats = await trillm.sim_stats("one")
        assert stats["in_flight"] == 1, "the whole stream was read although nobody takes it"


async def test_connections_beyond_the_limit_are_closed_and_the_others_live(tmp_path):
    async with running(tmp_path, {"one": Sim()}, max_connections=3) as trillm:
        open_ones = [await connect(trillm) for _ in range(3)]
        await trio.sleep(0.1)
        async with await connect(trillm) as extra:
            with trio.fail_after(1), suppress(trio.BrokenResourceError):
                assert await extra.receive_some() == b""
        await open_ones[0].send_all(request())
        assert (await read_all(open_ones[0])).startswith(b"HTTP/1.1 200")
        for stream in open_ones:
            await stream.aclose()
        with trio.fail_after(1):
            while trillm.server.door.connections:
                await trio.sleep(0.01)


async def test_a_keep_alive_connection_is_used_again(trillm):
    for _ in range(5):
        assert (await trillm.post("/v1/chat/completions", chat())).status_code == 200
        assert (await trillm.post("/v1/chat/completions", chat(stream=True))).status_code == 200
    assert trillm.server.door.connections == 1
    assert trillm.gateway.connections.opened <= 2


async def test_no_task_and_no_connection_is_left_after_abrupt_ends(trillm):
    before = trio.lowlevel.current_statistics().tasks_living
    for turn in range(40):
        stream = await connect(trillm)
        await stream.send_all(request(stream=True, x_sim={"itl_s": 0.005, "tokens": 500}))
        await trio.sleep(0.002 * (turn % 10))
        await trio.aclose_forcefully(stream)
    with trio.fail_after(2):
        while trillm.gateway.running or trillm.server.door.connections > 1:
            await trio.sleep(0.01)
    await trillm.settled("one", within_s=0.5)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert trio.lowlevel.current_statistics().tasks_living <= before + 3
