"""What is sent at the end of a round, on real socket pairs."""

import socket

import pytest
import trio
from support.cancelling import run_cancelled_at
from trio.testing import wait_all_tasks_blocked

from trillm.errors import UpstreamFailed
from trillm.wire.exchange import Connection
from trillm.wire.net import Origin
from trillm.wire.outbox import open_outbox
from trillm.wire.stream import RawStream, send_soon

MANY = b"0123456789abcdef" * 250_000  # more than a kernel takes at once


@pytest.fixture
async def outbox():
    async with open_outbox() as outbox:
        yield outbox


@pytest.fixture
async def pair(outbox):
    """Two connected streams, the first with an outbox."""
    a, b = socket.socketpair()
    ours, theirs = RawStream(a, outbox=outbox), RawStream(b)
    yield ours, theirs
    ours.close()
    theirs.close()


async def read_all(stream: RawStream) -> bytes:
    received = bytearray()
    while piece := await stream.receive_some():
        received += piece
    return bytes(received)


async def test_all_of_a_round_leaves_at_its_end(outbox):
    pairs = [socket.socketpair() for _ in range(3)]
    ours = [RawStream(a, outbox=outbox) for a, _ in pairs]
    theirs = [RawStream(b) for _, b in pairs]
    for stream in ours:
        assert stream.send_soon(b"abc")
    assert [stream.receive_now(9) for stream in theirs] == [None] * 3
    assert all(stream.unsent for stream in ours)
    await trio.lowlevel.checkpoint()
    assert [stream.receive_now(9) for stream in theirs] == [b"abc"] * 3
    assert not any(stream.unsent for stream in ours)
    for stream in (*ours, *theirs):
        stream.close()


async def test_nobody_waits_for_the_next_event_to_be_sent_something(pair, autojump_clock):
    # The end of a round is where Trio has just decided how long to wait.
    ours, theirs = pair
    assert ours.send_soon(b"abc")
    assert await theirs.receive_some() == b"abc"
    assert trio.current_time() == pytest.approx(0, abs=0.01)


async def test_a_stream_without_an_outbox_promises_nothing():
    a, b = socket.socketpair()
    with a, b:
        assert not RawStream(a).send_soon(b"abc")
        assert not send_soon(trio.testing.memory_stream_pair()[0], b"abc")
        assert RawStream(b).receive_now(9) is None


async def test_one_thing_at_a_time(pair):
    ours, theirs = pair
    assert ours.send_soon(b"abc")
    assert not ours.send_soon(b"def")
    await trio.lowlevel.checkpoint()
    assert ours.send_soon(b"ghi")
    await trio.lowlevel.checkpoint()
    assert theirs.receive_now(99) == b"abcghi"


async def test_what_is_sent_in_the_same_round_arrives_afterwards(pair):
    ours, theirs = pair
    assert ours.send_soon(b"abc")
    await ours.send_all(b"def")
    assert theirs.receive_now(9) == b"abcdef"


async def test_what_is_sent_while_something_does_not_fit_arrives_afterwards(pair, nursery):
    ours, theirs = pair
    assert ours.send_soon(MANY)
    await trio.lowlevel.checkpoint()
    assert ours.unsent
    assert not ours.send_soon(b"x")

    async def send():
        await ours.send_all(b"def")
        await ours.send_eof()

    nursery.start_soon(send)
    assert await read_all(theirs) == MANY + b"def"
    assert not ours.unsent


async def test_the_end_comes_after_what_was_to_be_sent_soon(pair):
    ours, theirs = pair
    assert ours.send_soon(b"abc")
    await ours.send_eof()
    assert await read_all(theirs) == b"abc"


async def test_what_does_not_fit_follows_when_the_peer_takes_it(pair):
    ours, theirs = pair
    assert ours.send_soon(MANY)
    received = bytearray()
    while len(received) < len(MANY):
        received += await theirs.receive_some()
    assert received == MANY


async def test_who_reads_sees_that_the_peer_is_gone(pair):
    ours, theirs = pair
    theirs.close()
    assert ours.send_soon(b"abc")
    assert await ours.receive_some() == b""
    assert not ours.unsent


async def test_a_peer_that_takes_nothing_is_given_up_and_who_reads_sees_it(pair):
    ours, _theirs = pair
    ours.write_stall_s = 0.05
    assert ours.send_soon(MANY)
    with trio.fail_after(5):
        assert await ours.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"x")


@pytest.mark.parametrize("rounds", [0, 1, 3])
async def test_closing_forgets_what_was_not_sent(pair, rounds):
    ours, theirs = pair
    ours.send_soon(MANY)
    for _ in range(rounds):
        await trio.lowlevel.checkpoint()
    ours.close()
    assert len(await read_all(theirs)) < len(MANY)
    await wait_all_tasks_blocked()
    assert not ours.unsent


async def test_at_its_end_an_outbox_sends_what_it_has():
    a, b = socket.socketpair()
    theirs = RawStream(b)
    async with open_outbox() as outbox:
        ours = RawStream(a, outbox=outbox)
        ours.send_soon(b"abc")
    assert theirs.receive_now(9) == b"abc"
    ours.close()
    theirs.close()


async def test_cancelled_anywhere_nothing_is_left_waiting():
    async def work():
        async with open_outbox() as outbox:
            a, b = socket.socketpair()
            ours, theirs = RawStream(a, outbox=outbox), RawStream(b)
            streams.append(ours)
            with a, b:
                ours.send_soon(MANY)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ours.send_all, b"def")
                    received = 0
                    while received < len(MANY) + 3:
                        received += len(await theirs.receive_some(1024 * 1024))

    streams: list[RawStream] = []
    wait = 1
    while await run_cancelled_at(wait, work):
        wait += 1
        assert not streams[-1].unsent
    assert wait > 5


async def test_a_request_that_did_not_leave_whole_ends_its_connection(pair):
    ours, theirs = pair
    connection = Connection(Origin.of("http://a"), ours)
    ours.send_soon(MANY)
    connection.sent = True
    await theirs.send_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
    await connection.read_more()
    assert connection.reader.complete
    assert not connection.reusable


async def test_a_kept_connection_that_the_server_has_closed_is_seen_by_its_reader(pair):
    ours, theirs = pair
    connection = Connection(Origin.of("http://a"), ours)
    theirs.close()
    ours.send_soon(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(UpstreamFailed, match="without an answer"):
        await connection.read_more()
