"""An exchange cancelled at every place where it waits: nothing is left open, and nothing spoilt is kept."""

from functools import partial

import pytest
import trio
import trio.testing
from support.cancelling import run_cancelled_at
from support.servers import CLOSE, Servers, echo, read_request

from trillm.budget import Budget
from trillm.wire.exchange import Connections, Endpoint, Request, build_request
from trillm.wire.net import Origin

ORIGIN = Origin("http", "gpu1.example", 8000)


def post(body: bytes) -> Request:
    return build_request(Endpoint(ORIGIN, "/v1/x"), [], body)


def an_hour() -> Budget:
    return Budget(3600, 3600)


async def ask(connections: Connections, body: bytes) -> None:
    async with connections.exchange(post(body), an_hour()) as exchange:
        assert await exchange.read(1_000_000) == body


async def ask_twice(connections: Connections) -> None:
    await ask(connections, b"1")
    await ask(connections, b"2")


async def read_stream(connections: Connections) -> None:
    async with connections.exchange(post(b"1"), an_hour()) as exchange:
        received = b""
        while piece := await exchange.receive():
            received += piece
            await trio.sleep(0.5)  # a caller that is slow to take it
        assert received.startswith(b"ab")
    await trio.sleep(0.5)
    await ask(connections, b"2")


async def skip_rest(connections: Connections) -> None:
    async with connections.exchange(post(b"1"), an_hour()) as exchange:
        await exchange.receive()
        await exchange.skip_rest(within_s=2)


async def ask_at_once(connections: Connections) -> None:
    async with trio.open_nursery() as clients:
        clients.start_soon(ask, connections, b"1")
        clients.start_soon(ask, connections, b"2")
        await ask(connections, b"3")


ECHO = [[echo]] * 9
SLOW_ECHO = [[1.0, echo]] * 9
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
DRIPPING = [CHUNKED, 1.0, b"1\r\nb\r\n", 1.0, b"1", 1.0, b"\r\nc\r\n", 1.0, b"0\r\n", 1.0, b"\r\n"]
INTERIM = [1.0, b"HTTP/1.1 100 Continue\r\n\r\n", 1.0, echo]

# name: what is done, what each connection's server does, the least number of waits there must be
TALKS = {
    "one answer after the other": (ask_twice, [SLOW_ECHO], 6),
    "an interim response": (ask_twice, [[INTERIM, INTERIM, *ECHO]], 8),
    "a dead connection replaced": (ask_twice, [[[echo], [1.0, CLOSE]], SLOW_ECHO], 7),
    "a body that is taken slowly": (partial(ask, body=b"x" * 200_000), [SLOW_ECHO], 4),
    "a dripping stream": (read_stream, [[DRIPPING, *SLOW_ECHO]], 12),
    "a stream to the close": (read_stream, [[[b"HTTP/1.1 200 OK\r\n\r\na", 1.0, b"b", 1.0, CLOSE]], SLOW_ECHO], 8),
    "a rest that is skipped": (skip_rest, [[[CHUNKED, 1.0, b"0\r\n\r\n"], *ECHO]], 4),
    "a rest that does not come": (skip_rest, [[[CHUNKED, 60.0]], ECHO], 4),
    "several at once": (ask_at_once, [SLOW_ECHO], 4),
}


@pytest.mark.parametrize("make_pair", [trio.testing.memory_stream_pair, trio.testing.lockstep_stream_pair])
@pytest.mark.parametrize("name", TALKS)
async def test_cancelled_at_any_wait_nothing_is_left_and_nothing_spoilt_is_kept(
    autojump_clock, nursery, name, make_pair
):
    talk, scripts, least_waits = TALKS[name]
    # Each piece of a request is taken late, so that in lockstep the client waits while it sends.
    reads = partial(read_request, piece_bytes=50_000, pause_s=1.0)
    wait, came_so_far = 0, True
    while came_so_far:
        wait += 1
        servers = Servers(nursery, scripts, connect_takes_s=1, make_pair=make_pair, reads=reads)
        connections = Connections(servers.connect, keep_alive_s=1e6)
        came_so_far = await run_cancelled_at(wait, partial(talk, connections))
        assert await servers.still_open() == connections.idle_count()
        await use_all_idle(connections)
        connections.close_idle()
        assert await servers.still_open() == 0
        await trio.sleep(1000)
        assert servers.ended == len(servers.streams)  # each server has seen its client leave
    assert wait > least_waits


async def use_all_idle(connections: Connections) -> None:
    """See that each kept connection answers the next request and not the last one."""
    async with trio.open_nursery() as clients:
        for number in range(connections.idle_count()):
            clients.start_soon(ask, connections, b"next %d" % number)
