"""A closed loop against a simulated server, and against servers that misbehave."""

from functools import partial
from types import SimpleNamespace

import attrs
import pytest
import trio

from trillm.bench.asks import Kind, Target, build_asks
from trillm.bench.load import Load, run_load
from trillm.sim.server import Simulator, handle_connection, serve_sim
from trillm.sim.settings import SimSettings
from trillm.wire import net
from trillm.wire.answer import head


def loads(url: str, kind: Kind = Kind.PLAIN, model: str = "sim-chat", **settings) -> Load:
    target = Target(url, model)
    chosen = {"connections": 3, "seconds": 0.2, "warmup_s": 0.0} | settings
    return Load(target.origin, build_asks(target, kind), **chosen)


async def simulated(nursery, **settings) -> str:
    return await nursery.start(partial(serve_sim, SimSettings(**settings)))


async def answering(nursery, respond) -> str:
    """A server that does ``respond(stream)`` with each connection."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await respond(stream)

    listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


@pytest.fixture(params=["poller", "own task"])
def either_way(request, monkeypatch) -> None:
    """Measured through the poller, and as where there is none."""
    if request.param == "own task":
        monkeypatch.setattr("trillm.wire.poller.sys", SimpleNamespace(platform="elsewhere"))


@pytest.mark.usefixtures("either_way")
async def test_plain_requests_are_asked_until_the_time_is_over(nursery):
    began = trio.current_time()
    tally = await run_load(loads(await simulated(nursery)))

    assert tally.requests > 3
    assert tally.errors == {}
    assert 0.19 < tally.seconds <= trio.current_time() - began < 5
    assert len(tally.total_s) == tally.requests == len(tally.first_byte_s)


@pytest.mark.usefixtures("either_way")
async def test_streams_are_measured_token_by_token(nursery):
    url = await simulated(nursery, tokens=5, ttft_s=0.02, itl_s=0.01)

    report = (await run_load(loads(url, Kind.STREAM, seconds=0.8))).report()

    assert report.errors == {}
    assert report.requests >= 3
    assert 19 < report.first_token.p50 < 200
    assert 5 < report.gap.p50 < 100
    assert report.total.p50 > report.first_token.p50 + 25


async def test_every_kind_is_asked_of_a_server_that_does_everything(nursery):
    url = await simulated(nursery)
    for kind, model in [(Kind.EMBEDDINGS, "sim-embed"), (Kind.RERANK, "sim-rerank")]:
        tally = await run_load(loads(url, kind, model, max_requests=5))
        assert (tally.requests >= 5, tally.errors) == (True, {})


async def test_enough_requests_end_it_before_the_time(nursery):
    tally = await run_load(loads(await simulated(nursery), seconds=30, max_requests=20))

    assert 20 <= tally.requests < 30
    assert tally.seconds < 5


async def test_warm_up_is_not_counted_and_the_edges_are_those_of_the_counting(nursery):
    url = await simulated(nursery)
    edges: list[float] = []
    began = trio.current_time()

    tally = await run_load(loads(url, warmup_s=0.3), at_edges=lambda: edges.append(trio.current_time()))

    assert edges[0] - began >= 0.3
    assert edges[1] - edges[0] == pytest.approx(tally.seconds, abs=0.05)


async def test_counting_begins_when_every_connection_had_its_first_answer(nursery):
    async def respond(stream: trio.SocketStream) -> None:
        pause_s = 0.6
        while await stream.receive_some():
            await trio.sleep(pause_s)
            await stream.send_all(head(200, [], length=2) + b"{}")
            pause_s = 0.01

    tally = await run_load(loads(await answering(nursery, respond), warmup_s=0.05))

    assert tally.requests > 0
    assert max(tally.total_s) < 0.5


async def test_a_server_that_never_answers_is_not_warmed_up_for_ever(nursery):
    async def respond(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(5):
        tally = await run_load(loads(await answering(nursery, respond), warmup_s=0.05, patience_s=0.2))

    assert tally.errors == {"no answer within 0.2 s of the end": 3}


async def test_answers_under_way_at_the_end_are_waited_for(nursery):
    url = await simulated(nursery, ttft_s=0.3)

    tally = await run_load(loads(url, seconds=0.1))

    assert (tally.requests, tally.errors) == (0, {}), "they ended well, but after the time"


async def test_what_is_never_answered_is_an_error_and_does_not_hold_it_up(nursery):
    async def respond(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    url = await answering(nursery, respond)
    tally = await run_load(loads(url, seconds=0.1, patience_s=0.2))

    assert tally.errors == {"no answer within 0.2 s of the end": 3}


async def test_a_refused_connection_is_an_error_that_is_tried_again_after_a_while(nursery):
    with trio.socket.socket() as bound:
        await bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        tally = await run_load(loads(url, connections=1, seconds=0.5))

    (why,) = tally.errors
    assert why.endswith("connection refused")
    assert 2 <= tally.errors[why] <= 6


@pytest.mark.usefixtures("either_way")
async def test_a_server_that_closes_after_each_answer_is_connected_to_again(nursery):
    async def respond(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(head(200, [(b"connection", b"close")], length=2) + b"{}")

    tally = await run_load(loads(await answering(nursery, respond), max_requests=10))

    assert (tally.requests >= 10, tally.errors) == (True, {})


@pytest.mark.usefixtures("either_way")
async def test_a_lost_connection_is_an_error_and_the_next_one_goes_on(nursery):
    connections = 0

    async def respond(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            return
        while await stream.receive_some():
            await stream.send_all(head(200, [], length=2) + b"{}")

    tally = await run_load(loads(await answering(nursery, respond), connections=1, seconds=0.3))

    assert tally.errors.total() == 1
    assert tally.requests > 1


async def test_large_requests_that_the_kernel_does_not_take_at_once_are_sent_whole(nursery):
    url = await simulated(nursery)
    (small,) = build_asks(Target(url, "sim-chat"), Kind.PLAIN)
    head_, _, body = small.raw.partition(b"\r\n\r\n")
    padded = body[:-1] + b" " * 8_000_000 + b"}"
    raw = head_.replace(b"content-length: %d" % len(body), b"content-length: %d" % len(padded)) + b"\r\n\r\n" + padded
    chosen = loads(url, connections=1, seconds=30, max_requests=3)

    tally = await run_load(attrs.evolve(chosen, asks=(attrs.evolve(small, raw=raw),)))

    assert (tally.requests, tally.errors) == (3, {})


async def test_any_stream_will_do_where_tls_or_memory_stands_between(nursery):
    simulator = Simulator(SimSettings())

    async def connect(_origin: net.Origin) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(handle_connection, theirs, simulator)
        return ours

    tally = await run_load(loads("http://sim.example", max_requests=20), connect=connect)

    assert (tally.requests >= 20, tally.errors) == (True, {})


async def test_cancelling_it_closes_every_connection(nursery):
    url = await simulated(nursery, ttft_s=5)
    opened: list[trio.abc.Stream] = []

    async def connect(origin: net.Origin) -> trio.abc.Stream:
        opened.append(await net.connect(origin))
        return opened[-1]

    with trio.move_on_after(0.2) as scope:
        await run_load(loads(url, seconds=30), connect=connect)

    assert scope.cancelled_caught
    assert [stream.socket.fileno() for stream in opened] == [-1, -1, -1]
