"""Streams of the data path, on real socket pairs."""

import socket
import ssl
import struct
from functools import partial

import pytest
import trio
import trio.testing

from trillm.wire.stream import RawStream, close_now

MANY = b"0123456789abcdef" * 250_000  # more than a kernel takes at once


@pytest.fixture
async def pair():
    """Two connected streams; whatever a test leaves open is closed."""
    ours, theirs = map(RawStream, socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def tcp_pair() -> tuple[RawStream, RawStream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return RawStream(ours), RawStream(theirs)


def reset(stream: RawStream) -> None:
    """Close so that the peer sees a reset, not an end."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


async def read_all(stream: RawStream) -> bytes:
    received = bytearray()
    while piece := await stream.receive_some():
        received += piece
    return bytes(received)


# ── sending and receiving ───────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_sent_arrives(pair):
    ours, theirs = pair
    for data in (b"a", bytearray(b"b"), memoryview(b"c"), b""):
        await ours.send_all(data)
    assert await theirs.receive_some() == b"abc"


async def test_more_than_the_kernel_takes_at_once_arrives_too(pair, nursery):
    ours, theirs = pair

    async def send():
        await ours.send_all(MANY)
        await ours.send_eof()

    nursery.start_soon(send)
    assert await read_all(theirs) == MANY


async def test_send_now_tells_how_much_was_taken(pair):
    ours, _ = pair
    assert ours.send_now(b"abc") == 3
    assert 0 < ours.send_now(MANY) < len(MANY)
    while ours.send_now(MANY):
        pass
    assert ours.send_now(b"abc") == 0


async def test_receiving_takes_no_more_than_it_is_allowed_to(pair):
    ours, theirs = pair
    await ours.send_all(b"abcdef")
    assert await theirs.receive_some(4) == b"abcd"
    assert await theirs.receive_some(4) == b"ef"


async def test_receive_now_tells_nothing_yet_from_the_end(pair):
    ours, theirs = pair
    assert ours.receive_now(10) is None
    await theirs.send_all(b"abc")
    assert ours.receive_now(2) == b"ab"
    theirs.close()
    assert [ours.receive_now(2), ours.receive_now(2)] == [b"c", b""]
    ours.close()
    with pytest.raises(trio.ClosedResourceError):
        ours.receive_now(2)


async def test_sending_what_fits_lets_nobody_in_between(pair):
    ours, _ = pair
    with trio.testing.assert_no_checkpoints():
        await ours.send_all(b"abc")


async def test_receiving_is_a_checkpoint_even_if_bytes_are_there(pair):
    ours, theirs = pair
    await ours.send_all(b"abc")
    with trio.CancelScope() as scope:
        scope.cancel()
        await theirs.receive_some()
    assert scope.cancelled_caught
    assert await theirs.receive_some() == b"abc"


async def test_a_half_closed_stream_can_still_receive(pair):
    ours, theirs = pair
    await ours.send_eof()
    assert await theirs.receive_some() == b""
    await theirs.send_all(b"late")
    assert await ours.receive_some() == b"late"


# ── the peer leaves ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_closed_peer_is_the_end(pair):
    ours, theirs = pair
    await theirs.send_all(b"bye")
    theirs.close()
    assert await ours.receive_some() == b"bye"
    assert await ours.receive_some() == b""
    assert await ours.receive_some() == b""


async def test_sending_to_a_closed_peer_breaks(pair):
    ours, theirs = pair
    theirs.close()
    with pytest.raises(trio.BrokenResourceError, match=r"connection lost: Broken pipe"):
        await ours.send_all(b"abc")


async def test_a_reset_breaks_both_ways():
    ours, theirs = tcp_pair()
    reset(theirs)
    with pytest.raises(trio.BrokenResourceError, match=r"connection lost: Connection reset by peer"):
        await ours.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"abc")
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_eof()
    ours.close()


async def test_a_peer_that_leaves_wakes_a_blocked_sender(pair, nursery):
    ours, theirs = pair

    async def leave():
        await trio.testing.wait_all_tasks_blocked()
        theirs.close()

    nursery.start_soon(leave)
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(MANY)


async def test_a_peer_that_reads_nothing_is_given_up(pair):
    ours, _ = pair
    ours.write_stall_s = 0.05
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError, match=r"the peer took no byte for 0.05 s"):
        await ours.send_all(MANY)
    assert 0.05 <= trio.current_time() - began < 5


async def test_a_peer_that_reads_slowly_is_not_given_up(pair, nursery):
    ours, theirs = pair
    ours.write_stall_s = 0.4

    async def read_slowly():
        while True:
            await trio.sleep(0.04)
            await theirs.receive_some(len(MANY) // 20)

    nursery.start_soon(read_slowly)
    began = trio.current_time()
    await ours.send_all(MANY)
    assert trio.current_time() - began > ours.write_stall_s
    nursery.cancel_scope.cancel()


async def test_a_blocked_sender_can_be_cancelled(pair):
    ours, _ = pair
    ours.write_stall_s = 60
    with trio.move_on_after(0.02) as scope:
        await ours.send_all(MANY)
    assert scope.cancelled_caught


# ── this side closes ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wait", [RawStream.receive_some, partial(RawStream.send_all, data=MANY)])
async def test_closing_wakes_who_waits(pair, nursery, wait):
    ours, _ = pair

    async def close():
        await trio.testing.wait_all_tasks_blocked()
        ours.close()

    nursery.start_soon(close)
    with pytest.raises(trio.ClosedResourceError):
        await wait(ours)


async def test_a_closed_stream_can_do_nothing_but_be_closed(pair):
    ours, theirs = pair
    ours.close()
    ours.close()
    await ours.aclose()
    for _ in range(2):
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(b"abc")
        with pytest.raises(trio.ClosedResourceError):
            await ours.wait_send_all_might_not_block()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_eof()
    # Trio's books are in order: another stream, whatever its descriptor, can wait.
    await theirs.receive_some()


async def test_a_cancelled_aclose_has_closed(pair):
    ours, theirs = pair
    await trio.aclose_forcefully(ours)
    assert await theirs.receive_some() == b""


async def test_aclose_lets_others_run(pair):
    with trio.testing.assert_checkpoints():
        await pair[0].aclose()


# ── idle connections ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_quiet_connection_is_not_stale(pair):
    assert not pair[0].went_stale()


async def test_bytes_nobody_asked_for_make_it_stale_and_stay(pair):
    ours, theirs = pair
    await theirs.send_all(b"x")
    assert ours.went_stale()
    assert await ours.receive_some() == b"x"


@pytest.mark.parametrize("leave", [RawStream.close, reset])
async def test_a_peer_that_left_makes_it_stale(leave):
    ours, theirs = tcp_pair()
    leave(theirs)
    assert ours.went_stale()
    ours.close()


async def test_a_closed_connection_is_stale(pair):
    pair[0].close()
    assert pair[0].went_stale()


async def test_a_socket_can_be_taken_out_of_a_stream_of_trios():
    a, b = trio.socket.socketpair()
    stream, theirs = trio.SocketStream(a), trio.SocketStream(b)
    ours = RawStream.take_over(stream, write_stall_s=7)
    assert ours.write_stall_s == 7
    await stream.aclose()  # it owns nothing any more
    await ours.send_all(b"abc")
    assert await theirs.receive_some() == b"abc"
    ours.close()
    assert await theirs.receive_some() == b""
    await theirs.aclose()


# ── closing whatever it is ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", [trio.testing.memory_stream_pair, trio.testing.lockstep_stream_pair])
async def test_in_memory_streams_close_at_once(make):
    ours, theirs = make()
    close_now(ours)
    assert await theirs.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"abc")


async def test_an_encrypted_stream_closes_without_goodbyes(pair):
    ours, theirs = pair
    close_now(trio.SSLStream(ours, ssl.create_default_context(), server_hostname="a.example"))
    assert await theirs.receive_some() == b""


async def test_what_cannot_be_closed_at_once_is_refused():
    class Lingering(trio.abc.AsyncResource):
        async def aclose(self): ...

    with pytest.raises(TypeError, match="Lingering"):
        close_now(Lingering())
