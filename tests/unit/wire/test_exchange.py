"""Whole conversations with in-memory servers on virtual time: what is reused, what is retried, what is closed."""

import socket
import ssl
import struct
from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing
import trustme
from support.servers import CHUNKED, CLOSE, Script, Servers, echo, ok, read_request

from trillm.budget import Budget, Phase
from trillm.errors import BudgetSpent, UpstreamFailed
from trillm.wire import net
from trillm.wire.exchange import Connections, Endpoint, Request, build_request
from trillm.wire.net import Origin
from trillm.wire.response import MAX_HEAD_BYTES
from trillm.wire.stream import RawStream

ORIGIN = Origin("http", "gpu1.example", 8000)
OTHER = Origin("http", "gpu2.example", 8000)


def post(body: bytes = b"{}", origin: Origin = ORIGIN) -> Request:
    return build_request(Endpoint(origin, "/v1/x"), [(b"x-request-id", b"r1")], body)


def an_hour() -> Budget:
    return Budget(3600, 3600)


async def ask(connections: Connections, body: bytes = b"{}", origin: Origin = ORIGIN) -> bytes:
    async with connections.exchange(post(body, origin), an_hour()) as exchange:
        assert exchange.status == 200
        return await exchange.read(1000)


def serving(nursery: trio.Nursery, *scripts: Script, **settings) -> tuple[Servers, Connections]:
    servers = Servers(nursery, scripts, **settings)
    return servers, Connections(servers.connect)


ALWAYS_ECHO = [[echo]] * 100

# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_complete_and_counted():
    request = build_request(
        Endpoint(Origin("http", "::1", 80), "/v1/chat?x=1"), [(b"authorization", b"Bearer k")], b"{}"
    )
    assert request.head == (
        b"POST /v1/chat?x=1 HTTP/1.1\r\nhost: [::1]\r\ncontent-type: application/json\r\n"
        b"accept-encoding: identity\r\ncontent-length: 2\r\nauthorization: Bearer k\r\n\r\n"
    )
    assert request.body == b"{}"


def test_a_requests_repr_keeps_keys_and_prompts_to_itself():
    shown = repr(build_request(Endpoint(ORIGIN, "/"), [(b"authorization", b"Bearer hunter2")], b"my prompt"))
    assert "hunter2" not in shown
    assert "prompt" not in shown


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 1_000_000])
async def test_a_body_of_any_size_arrives_whole(autojump_clock, nursery, size):
    body = b"x" * size
    servers, connections = serving(nursery, ALWAYS_ECHO)
    async with connections.exchange(post(body), an_hour()) as exchange:
        assert await exchange.read(size) == body
    assert servers.requests == [post(body).head + body]
    connections.close_idle()


# ── keep-alive ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_is_used_again(autojump_clock, nursery):
    servers, connections = serving(nursery, ALWAYS_ECHO)
    for body in (b"1", b"2", b"3"):
        assert await ask(connections, body) == body
    assert (connections.opened, connections.idle_count(), len(servers.streams)) == (1, 1, 1)
    connections.close_idle()
    assert await servers.still_open() == 0


async def test_requests_at_the_same_time_have_their_own_connections(autojump_clock, nursery):
    servers, connections = serving(nursery, [[1.0, echo]] * 10)
    async with trio.open_nursery() as clients:
        for _ in range(5):
            clients.start_soon(ask, connections)
    assert connections.opened == connections.idle_count() == 5
    connections.close_idle()
    assert await servers.still_open() == 0


async def test_no_more_than_so_many_idle_connections_are_kept(autojump_clock, nursery):
    servers, connections = serving(nursery, [[1.0, echo]])
    connections.max_idle = 2
    async with trio.open_nursery() as clients:
        for _ in range(5):
            clients.start_soon(ask, connections)
    assert connections.idle_count() == await servers.still_open() == 2
    connections.close_idle()


async def test_origins_do_not_share_connections(autojump_clock, nursery):
    servers, connections = serving(nursery, ALWAYS_ECHO)
    await ask(connections, origin=ORIGIN)
    await ask(connections, origin=OTHER)
    assert (connections.opened, connections.idle_count()) == (2, 2)
    connections.close_idle(ORIGIN)
    assert connections.idle_count() == await servers.still_open() == 1
    await ask(connections, origin=OTHER)
    assert connections.opened == 2
    connections.close_idle()


@pytest.mark.parametrize(("idle_s", "opened"), [(3.9, 1), (4.1, 2)])
async def test_a_connection_is_trusted_only_so_long(autojump_clock, nursery, idle_s, opened):
    servers, connections = serving(nursery, ALWAYS_ECHO)
    await ask(connections)
    await trio.sleep(idle_s)
    await ask(connections)
    assert connections.opened == opened
    assert await servers.still_open() == 1
    connections.close_idle()


async def test_after_a_burst_connections_that_nobody_needs_are_closed(autojump_clock, nursery):
    servers, connections = serving(nursery, [[1.0, echo]] * 100)
    async with trio.open_nursery() as clients:
        for origin in [ORIGIN, OTHER] * 5:
            clients.start_soon(ask, connections, b"{}", origin)
    assert connections.idle_count() == 10
    for _ in range(10):
        await ask(connections)
    assert connections.opened == 10
    assert connections.idle_count() == await servers.still_open() == 1
    connections.close_idle()


@pytest.mark.parametrize(
    "answer",
    [
        [ok(b"a", b"connection: close\r\n")],
        [ok(b"a").replace(b"HTTP/1.1", b"HTTP/1.0")],
        [b"HTTP/1.1 200 OK\r\n\r\na", CLOSE],
        [ok(b"a") + b"surplus"],
        [ok(b"a") + ok(b"b")],
    ],
)
async def test_a_connection_that_cannot_go_on_is_closed(autojump_clock, nursery, answer):
    servers, connections = serving(nursery, [answer], ALWAYS_ECHO)
    assert await ask(connections) == b"a"
    assert connections.idle_count() == await servers.still_open() == 0
    assert await ask(connections, b"mine") == b"mine"
    connections.close_idle()


async def test_a_connection_whose_answer_was_not_read_is_closed(autojump_clock, nursery):
    servers, connections = serving(nursery, [[ok(b"x" * 100)[:-50], 1.0, b"x" * 50]], ALWAYS_ECHO)
    async with connections.exchange(post(), an_hour()) as exchange:
        assert exchange.status == 200
    assert connections.idle_count() == await servers.still_open() == 0


async def test_an_error_in_the_block_closes_a_connection_that_is_not_at_its_end(autojump_clock, nursery):
    async def fail_in_the_middle():
        async with connections.exchange(post(), an_hour()) as exchange:
            await exchange.receive()
            raise LookupError

    servers, connections = serving(nursery, [[ok(b"xy")[:-1], 1.0, b"y"]])
    with pytest.raises(LookupError):
        await fail_in_the_middle()
    assert connections.idle_count() == await servers.still_open() == 0


# ── a kept-alive connection that is dead ────────────────────────────────────────────────────────────────────────


async def test_a_reused_connection_found_dead_is_replaced(autojump_clock, nursery):
    servers, connections = serving(nursery, [[echo], [CLOSE]], ALWAYS_ECHO)
    await ask(connections, b"1")
    assert await ask(connections, b"2") == b"2"
    assert connections.opened == 2
    assert [request[-1:] for request in servers.requests] == [b"1", b"2", b"2"]
    assert connections.idle_count() == await servers.still_open() == 1
    connections.close_idle()


async def test_a_reused_connection_that_was_closed_meanwhile_is_replaced(autojump_clock, nursery):
    _, connections = serving(nursery, [[echo, CLOSE]], ALWAYS_ECHO)
    await ask(connections, b"1")
    assert connections.idle_count() == 1  # in memory there is no way to see it; the next request does
    assert await ask(connections, b"2") == b"2"
    assert connections.opened == 2
    connections.close_idle()


async def test_it_is_replaced_once_and_never_twice(autojump_clock, nursery):
    servers, connections = serving(nursery, [[echo], [CLOSE]], [[CLOSE]])
    await ask(connections)
    with pytest.raises(UpstreamFailed, match="without an answer"):
        await ask(connections)
    assert connections.opened == 2
    assert connections.idle_count() == await servers.still_open() == 0


async def test_a_fresh_connection_is_not_replaced(autojump_clock, nursery):
    servers, connections = serving(nursery, [[CLOSE]], ALWAYS_ECHO)
    with pytest.raises(UpstreamFailed, match="without an answer"):
        await ask(connections)
    assert connections.opened == 1
    assert await servers.still_open() == 0


@pytest.mark.parametrize("begin", [b"H", ok(b"")[:-1], b"HTTP/1.1 100 Continue\r\n\r\n", b"garbage\r\n"])
async def test_after_one_byte_of_an_answer_there_is_no_second_try(autojump_clock, nursery, begin):
    servers, connections = serving(nursery, [[echo], [begin, CLOSE]], ALWAYS_ECHO)
    await ask(connections)
    with pytest.raises(UpstreamFailed):
        await ask(connections)
    assert connections.opened == 1
    assert connections.idle_count() == await servers.still_open() == 0


async def test_a_dead_connection_is_replaced_by_a_new_one_not_by_another_idle_one(autojump_clock, nursery):
    dies = [[1.0, echo], [CLOSE]]
    _, connections = serving(nursery, dies, dies, ALWAYS_ECHO)
    async with trio.open_nursery() as clients:
        clients.start_soon(ask, connections)
        clients.start_soon(ask, connections)
    assert await ask(connections, b"3") == b"3"
    assert connections.opened == 3
    connections.close_idle()


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def pieces_of(connections: Connections) -> list[tuple[float, bytes]]:
    began = trio.current_time()
    pieces = []
    async with connections.exchange(post(), an_hour()) as exchange:
        while piece := await exchange.receive():
            pieces.append((trio.current_time() - began, piece))
        assert await exchange.receive() == b""
    return pieces


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ([ok(b"abcd")[:-3], 1.0, b"b", 1.0, b"cd"], 1),
        ([CHUNKED + b"1\r\na\r\n", 1.0, b"1\r\nb\r\n", 1.0, b"2\r\ncd\r\n", 1.0, b"0\r\n\r\n"], 1),
        ([CHUNKED + b"1\r\na\r\n", 1.0, b"1\r\nb\r\n", 1.0, b"1\r\nc\r\n1\r\nd\r\n0\r\n\r\n"], 1),
        ([b"HTTP/1.1 200 OK\r\n\r\na", 1.0, b"b", 1.0, b"cd", 1.0, CLOSE], 0),
    ],
)
async def test_bytes_come_in_the_wake_they_arrive_in(autojump_clock, nursery, steps, kept):
    servers, connections = serving(nursery, [steps])
    assert await pieces_of(connections) == [(0, b"a"), (1, b"b"), (2, b"cd")]
    assert connections.idle_count() == await servers.still_open() == kept
    connections.close_idle()


async def test_the_head_is_told_before_the_body_is_there(autojump_clock, nursery):
    _, connections = serving(nursery, [[1.0, ok(b"a", b"X-Y: z\r\n")[:-1], 5.0, b"a"]])
    async with connections.exchange(post(), an_hour()) as exchange:
        assert trio.current_time() == 1
        assert exchange.status == 200
        assert exchange.headers == [(b"x-y", b"z"), (b"content-length", b"1")]
        assert exchange.raw is None  # no socket of ours
    await trio.sleep(5)


async def test_an_interim_response_is_waited_through(autojump_clock, nursery):
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    _, connections = serving(nursery, [[interim, 1.0, interim, 1.0, ok(b"a")]])
    assert await pieces_of(connections) == [(2, b"a")]
    connections.close_idle()


async def test_a_whole_body_is_read_up_to_a_limit(autojump_clock, nursery):
    servers, connections = serving(nursery, [[CHUNKED, b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\n\r\n"]] * 2)
    async with connections.exchange(post(), an_hour()) as exchange:
        assert await exchange.read(10) == b"helloworld"
    with pytest.raises(UpstreamFailed, match="larger than 9 bytes"):
        async with connections.exchange(post(), an_hour()) as exchange:
            await exchange.read(9)
    connections.close_idle()
    assert await servers.still_open() == 0


async def test_an_empty_body_is_empty(autojump_clock, nursery):
    _, connections = serving(nursery, [[b"HTTP/1.1 204 No Content\r\n\r\n"]])
    async with connections.exchange(post(), an_hour()) as exchange:
        assert await exchange.read(10) == b""
    assert connections.idle_count() == 1
    connections.close_idle()


@pytest.mark.parametrize("answer", [ok(b"hello"), CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], ids=["length", "chunked"])
async def test_an_answer_cut_anywhere_is_a_failure(autojump_clock, nursery, answer):
    for length in range(len(answer)):
        servers, connections = serving(nursery, [[answer[:length], 1.0, CLOSE]])
        with pytest.raises(UpstreamFailed, match="closed the connection"):
            await ask(connections)
        assert connections.opened == 1
        assert connections.idle_count() == await servers.still_open() == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"garbage", "not valid HTTP"),
        (CHUNKED + b"1\r\na\r\nnonsense\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_HEAD_BYTES + 1), "head is larger"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "switch protocols"),
    ],
)
async def test_what_is_no_answer_is_a_failure(autojump_clock, nursery, answer, reason):
    servers, connections = serving(nursery, [[answer]])
    with pytest.raises(UpstreamFailed, match=reason):
        await ask(connections)
    assert connections.idle_count() == await servers.still_open() == 0


# ── the rest of an answer that nobody needs ─────────────────────────────────────────────────────────────────────

DONE = CHUNKED + b"4\r\ndone\r\n"


@pytest.mark.parametrize(
    ("rest", "kept", "took_s"),
    [
        ([b"0\r\n\r\n"], 1, 0),
        ([0.25, b"0\r\n\r\n"], 1, 0.25),
        ([0.25, b"1\r\nx\r\n0\r\n\r\n"], 1, 0.25),
        ([60.0, b"0\r\n\r\n"], 0, 0.5),
        ([CLOSE], 0, 0),
        ([b"nonsense\r\n"], 0, 0),
    ],
)
async def test_the_rest_is_skipped_if_it_comes_soon(autojump_clock, nursery, rest, kept, took_s):
    servers, connections = serving(nursery, [[DONE, *rest]])
    async with connections.exchange(post(), an_hour()) as exchange:
        assert await exchange.receive() == b"done"
        began = trio.current_time()
        await exchange.skip_rest(within_s=0.5)
        assert trio.current_time() - began == took_s
    assert connections.idle_count() == await servers.still_open() == kept
    connections.close_idle()


async def test_skipping_can_be_cancelled(autojump_clock, nursery):
    servers, connections = serving(nursery, [[DONE, 60.0]])
    with trio.move_on_after(0.1) as scope:
        async with connections.exchange(post(), an_hour()) as exchange:
            await exchange.receive()
            await exchange.skip_rest(within_s=0.5)
    assert scope.cancelled_caught
    assert await servers.still_open() == 0


# ── connecting, and what the time goes into ─────────────────────────────────────────────────────────────────────


async def test_a_slow_connect_is_given_up(autojump_clock, nursery):
    servers, connections = serving(nursery, ALWAYS_ECHO, connect_takes_s=10)
    with pytest.raises(UpstreamFailed, match=r"cannot connect to gpu1\.example:8000 within 3 s"):
        await ask(connections)
    assert trio.current_time() == 3
    assert connections.opened == len(servers.streams) == 0


async def test_a_refused_connection_is_a_failure(autojump_clock):
    async def refuse(origin):
        await trio.lowlevel.checkpoint()
        raise UpstreamFailed("cannot connect: connection refused")

    connections = Connections(refuse)
    with pytest.raises(UpstreamFailed, match="refused"):
        await ask(connections)
    assert connections.opened == connections.idle_count() == 0


@pytest.mark.parametrize(
    ("limit_s", "phase"),
    [(0.5, "connect"), (1.5, "first_token"), (2.5, "first_token"), (3.5, None)],
)
async def test_the_budget_knows_what_the_time_goes_into(autojump_clock, nursery, limit_s, phase):
    servers, connections = serving(nursery, [[1.0, b"HTTP/1.1 100 Continue\r\n\r\n", 1.0, echo]], connect_takes_s=1)
    budget = Budget(limit_s, 1)

    async def talk():
        with budget.spend():
            async with connections.exchange(post(), budget, Phase.FIRST_TOKEN) as exchange:
                assert exchange.connected == 1
                await exchange.read(100)

    if phase is None:
        await talk()
    else:
        with pytest.raises(BudgetSpent) as caught:
            await talk()
        assert caught.value.phase == phase
        assert trio.current_time() == limit_s
        assert await servers.still_open() == 0
    connections.close_idle()


async def test_a_reused_connection_spends_no_time_connecting(autojump_clock, nursery):
    _, connections = serving(nursery, ALWAYS_ECHO, connect_takes_s=1)
    await ask(connections)
    budget = Budget(5, 5)
    async with connections.exchange(post(), budget) as exchange:
        assert (exchange.connected, trio.current_time(), budget.phase) == (1, 1, Phase.TOTAL)
    connections.close_idle()


async def test_an_exchange_that_was_not_entered_has_no_answer():
    with pytest.raises(AttributeError):
        _ = Connections().exchange(post(), an_hour()).status


# ── on real sockets ─────────────────────────────────────────────────────────────────────────────────────────────


async def listen(nursery: trio.Nursery, handler: Callable, scheme: str = "http") -> Origin:
    (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
    return Origin(scheme, "127.0.0.1", listener.socket.getsockname()[1])


async def test_an_idle_connection_that_was_closed_is_seen_before_it_is_used(nursery):
    closed = trio.Semaphore(0)

    async def answer_once(stream):
        async with stream:
            await read_request(stream)
            await stream.send_all(ok(b"a"))
        closed.release()

    origin = await listen(nursery, answer_once)
    connections = Connections()
    await ask(connections, origin=origin)
    await closed.acquire()
    await trio.sleep(0.15)  # one that was used just now is not looked at; if it is dead it is replaced
    assert connections.idle_count() == 1
    assert connections.take_idle(origin) is None
    nursery.cancel_scope.cancel()


async def test_bytes_that_somebody_else_reads_can_be_parsed_here(nursery):
    async def drip(stream):
        async with stream:
            await read_request(stream)
            await stream.send_all(CHUNKED)
            await stream.receive_some()

    connections = Connections()
    async with connections.exchange(post(origin=await listen(nursery, drip)), an_hour()) as exchange:
        assert isinstance(exchange.raw, RawStream)
        assert exchange.parse(b"2\r\nab\r\n1\r\n") == b"ab"
        assert exchange.parse(b"c\r\n") == b"c"
        assert not exchange.complete
        assert exchange.parse(b"0\r\n\r\n") == b""
        assert exchange.complete
        assert await exchange.receive() == b""
    assert connections.idle_count() == 1
    connections.close_idle()
    async with connections.exchange(post(origin=await listen(nursery, drip)), an_hour()) as exchange:
        with pytest.raises(UpstreamFailed, match="in the middle"):
            exchange.parse(b"")
    assert connections.idle_count() == 0
    nursery.cancel_scope.cancel()


async def test_a_refusal_of_a_large_body_is_heard_although_the_body_was_not_read(nursery):
    async def refuse(stream):
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge")

    origin = await listen(nursery, refuse)
    connections = Connections()
    async with connections.exchange(post(b"x" * 30_000_000, origin), an_hour()) as exchange:
        assert exchange.status == 413
        assert await exchange.read(100) == b"large"
    assert connections.idle_count() == 0  # the request never went out whole
    nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_under_a_large_body_is_a_failure(nursery):
    async def hang_up(stream):
        await stream.receive_some(1000)
        await stream.aclose()

    origin = await listen(nursery, hang_up)
    with pytest.raises(UpstreamFailed, match=r"broke the connection|without an answer"):
        await ask(Connections(), b"x" * 30_000_000, origin)
    nursery.cancel_scope.cancel()


async def test_a_reset_in_the_middle_of_an_answer_is_a_failure(nursery):
    async def reset(stream):
        await read_request(stream)
        await stream.send_all(ok(b"hello")[:-1])
        await read_on.wait()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    read_on = trio.Event()
    connections = Connections()
    async with connections.exchange(post(origin=await listen(nursery, reset)), an_hour()) as exchange:
        assert await exchange.receive() == b"hell"
        read_on.set()
        with pytest.raises(UpstreamFailed, match="broke the connection"):
            await exchange.receive()
    assert connections.idle_count() == 0
    nursery.cancel_scope.cancel()


async def test_an_encrypted_connection_is_used_again(nursery, tmp_path, monkeypatch):
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    net.client_context.cache_clear()

    async def serve(stream):
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        while request := await read_request(tls):
            await tls.send_all(echo(request))
        await trio.aclose_forcefully(tls)

    origin = await listen(nursery, serve, "https")
    connections = Connections()
    for body in (b"1", b"2", b"3"):
        assert await ask(connections, body, origin) == body
    assert (connections.opened, connections.idle_count()) == (1, 1)
    connections.close_idle()
    net.client_context.cache_clear()
    nursery.cancel_scope.cancel()


async def test_cancelled_while_a_real_peer_reads_nothing_the_peer_sees_the_end():
    async def connect(origin):
        await trio.lowlevel.checkpoint()
        return ours

    ours, theirs = map(RawStream, socket.socketpair())
    with trio.move_on_after(0.05) as scope:
        await ask(Connections(connect), b"x" * 30_000_000)
    assert scope.cancelled_caught
    while await theirs.receive_some():
        pass
    theirs.close()
