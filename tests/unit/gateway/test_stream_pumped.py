"""Streams carried by the pump, on real sockets: what the caller receives is what it would receive without."""

import socket
import sys
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from support.gateways import (
    COMMENT,
    DONE,
    END,
    ERROR,
    FINISH,
    FRAMES,
    ROLE,
    STREAM,
    STREAMED,
    Rig,
    a_call,
    chunk,
    event,
    one,
    tok,
    unblamed,
)
from support.servers import CLOSE

from trillm.door.reply import LaneReply
from trillm.gateway.journey import Outcome
from trillm.gateway.limits import Limits
from trillm.wire.poller import open_poller
from trillm.wire.pump import Pump
from trillm.wire.stream import RawStream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the pump needs epoll")

BEFORE = chunk(ROLE, tok("a"))
#: More than two sockets' buffers hold.
MANY = [tok("x" * 50_000)] * 100


def a_pair() -> tuple[RawStream, RawStream]:
    ours, theirs = map(RawStream, socket.socketpair())
    return ours, theirs


@define
class Client:
    """The caller's end of the connection, and what came through it."""

    stream: RawStream
    received: bytearray = field(factory=bytearray)

    async def read(self) -> None:
        """Read to the end."""
        with trio.fail_after(5):
            while data := await self.stream.receive_some():
                self.received += data

    @property
    def body(self) -> bytes:
        """The chunks that are whole, joined; fails where they are not followed by nothing."""
        rest, body = self.received.partition(b"\r\n\r\n")[2], b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            assert rest[length : length + 2] == b"\r\n"
            body, rest = body + rest[:length], rest[length + 2 :]
        return body

    @property
    def ended(self) -> bool:
        return self.received.endswith(b"\r\n0\r\n\r\n")


@asynccontextmanager
async def asking(*steps, **settings):
    """Ask for a stream of these steps; yields the rig, the client, the reply, and the scope of the call."""
    async with open_poller() as poller, trio.open_nursery() as nursery:
        rig = one(nursery, *steps, pump=Pump(poller), make_pair=a_pair, **settings)
        near, far = a_pair()
        reply, client, scope = LaneReply(near), Client(far), trio.CancelScope()

        async def call() -> None:
            with scope:
                await rig.gateway.handle(a_call(**STREAMED), reply)
            near.socket.shutdown(socket.SHUT_WR)

        async with near, far:
            nursery.start_soon(call)
            yield rig, client, reply, scope
            rig.connections.close_idle()
            nursery.cancel_scope.cancel()


async def freed(rig: Rig) -> None:
    with trio.fail_after(1):
        while await rig.left():
            await trio.sleep(0.001)


async def test_a_stream_goes_through_untouched_and_its_connection_is_kept():
    async with asking(STREAM, *map(chunk, FRAMES[:-1]), 0.01, chunk(DONE) + END) as (rig, client, _, _):
        await client.read()
        assert client.body == b"".join(FRAMES)
        assert client.ended
        assert rig.journey.outcome is Outcome.OK
        await freed(rig)
        assert rig.connections.idle_count() == 1


async def test_each_wakes_bytes_leave_in_the_same_wake():
    async with asking(STREAM + BEFORE, *[0.2, chunk(tok("b"))] * 3, 60.0) as (_, client, _, scope):
        sizes = []
        for _ in range(4):
            client.received += await client.stream.receive_some()
            sizes.append(len(client.body))
        assert sizes == [len(ROLE + tok("a")) + n * len(tok("b")) for n in range(4)]
        scope.cancel()


async def test_a_client_that_is_slow_gets_every_byte_in_order():
    sent = [tok(f"{number}" * 50_000) for number in range(100)]
    async with asking(STREAM + BEFORE, 0.02, *map(chunk, sent), chunk(DONE) + END) as (rig, client, _, _):
        await trio.sleep(0.2)
        await client.read()
        assert client.body == ROLE + tok("a") + b"".join(sent) + DONE
        assert rig.journey.outcome is Outcome.OK
        await freed(rig)


async def test_what_a_slow_client_takes_is_not_the_servers_stall():
    steps = [STREAM + BEFORE, 0.02, *map(chunk, MANY), chunk(DONE) + END]
    async with asking(*steps, limits=Limits(stall=0.3)) as (rig, client, _, _):
        await trio.sleep(0.8)
        await client.read()
        assert client.body.endswith(DONE)
        assert rig.journey.outcome is Outcome.OK


BREAKS = {
    "cut": [CLOSE],
    "cut in a frame": [chunk(tok("lo")[:20]), CLOSE],
    "the end": [END],
    "an error frame": [chunk(ERROR), 60.0],
    "an error frame and done in one piece with content": [chunk(tok("lo"), ERROR, DONE) + END],
    "broken chunks": [b"zz\r\n", 60.0],
}


@pytest.mark.parametrize("steps", BREAKS.values(), ids=BREAKS)
async def test_a_stream_that_breaks_ends_with_an_error_and_never_with_done(steps):
    async with asking(STREAM + BEFORE, 0.02, *steps) as (rig, client, _, _):
        await client.read()
        assert b'"code":"upstream_failed"' in client.body
        assert b"[DONE]" not in client.body
        assert client.ended
        assert rig.journey.outcome is Outcome.FAILED
        assert unblamed(rig) == []
        await freed(rig)


ENDINGS = {
    "done": [chunk(DONE) + END],
    "done, and the response does not end": [chunk(DONE), 60.0],
    "done in pieces": [chunk(DONE[:9]), 0.02, chunk(DONE[9:]), 0.02, END],
    "without done": [chunk(FINISH) + END],
    "without done, a moment later": [chunk(FINISH), 0.02, END],
}


@pytest.mark.parametrize("steps", ENDINGS.values(), ids=ENDINGS)
async def test_a_stream_that_was_finished_ends_with_done(steps):
    async with asking(STREAM + BEFORE, 0.02, *steps) as (rig, client, _, _):
        await client.read()
        assert client.body.endswith(DONE)
        assert client.ended
        assert rig.journey.outcome is Outcome.OK
        await freed(rig)


@pytest.mark.parametrize("steps", [[60.0], [chunk(COMMENT), 0.05] * 60], ids=["silence", "keep-alives"])
async def test_a_stall_ends_it_with_an_error_event(steps):
    async with asking(STREAM + BEFORE, 0.02, *steps, limits=Limits(stall=0.2)) as (rig, client, _, _):
        began = trio.current_time()
        await client.read()
        assert 0.1 < trio.current_time() - began < 2
        assert b'"phase":"stall"' in client.body
        assert client.ended
        assert rig.journey.outcome is Outcome.BUDGET
        assert unblamed(rig) == []
        await freed(rig)


async def test_it_may_flow_for_longer_than_it_may_stall():
    steps = [STREAM + BEFORE, *[0.05, chunk(tok("b"))] * 10, chunk(DONE) + END]
    async with asking(*steps, limits=Limits(stall=0.3)) as (rig, client, _, _):
        await client.read()
        assert rig.journey.outcome is Outcome.OK


async def test_a_limit_for_the_whole_stream_ends_it_however_well_it_flows():
    async with asking(STREAM + BEFORE, *[0.02, chunk(tok("b"))] * 100, limits=Limits(total=0.3)) as (rig, client, _, _):
        await client.read()
        assert b'"phase":"total"' in client.body
        assert unblamed(rig) == ["one"]
        await freed(rig)


async def test_usage_and_malformed_frames_are_seen():
    usage = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 5})
    steps = [STREAM + BEFORE, 0.02, chunk(b"data: {nonsense\n\n", usage), 0.02, chunk(DONE) + END]
    async with asking(*steps) as (rig, client, _, _):
        await client.read()
        assert client.body == ROLE + tok("a") + DONE  # it did not ask for the usage
        assert (rig.journey.malformed, rig.journey.usage.completion_tokens) == (1, 5)


async def test_a_caller_that_leaves_frees_everything_at_once():
    async with asking(STREAM + BEFORE, *[0.02, chunk(tok("b"))] * 100) as (rig, _, _, scope):
        await trio.sleep(0.1)
        assert rig.gateway.running == 1
        scope.cancel()
        await freed(rig)
        assert rig.journey.outcome is Outcome.CLIENT_GONE
        assert unblamed(rig) == ["one"]


async def test_a_caller_that_is_found_gone_by_writing_frees_everything():
    async with asking(STREAM + BEFORE, *[0.02, chunk(tok("b"))] * 100) as (rig, client, _, _):
        await trio.sleep(0.1)
        client.stream.close()
        await freed(rig)
        assert rig.journey.outcome is Outcome.CLIENT_GONE


async def test_a_piece_that_is_cut_short_by_the_stop_is_followed_by_nothing():
    async with asking(STREAM + BEFORE, 0.02, *map(chunk, MANY), 60.0) as (rig, client, reply, _):
        await trio.sleep(0.2)
        rig.gateway.cut_all("trillm is stopping.")
        await freed(rig)
        assert reply.aborted
        assert rig.journey.outcome is Outcome.STOPPED
        await client.read()
        assert b"error" not in client.received


async def test_a_stream_that_is_stopped_between_two_pieces_is_told():
    async with asking(STREAM + BEFORE, 60.0) as (rig, client, _, _):
        await trio.sleep(0.1)
        rig.gateway.cut_all("trillm is stopping.")
        await client.read()
        assert b'"code":"stopping"' in client.body
        assert client.ended
