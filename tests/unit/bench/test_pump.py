"""Steps are called when there is something to read, and what they raise reaches who waits."""

import socket
import sys
from collections.abc import Iterator

import pytest
import trio

from trillm.bench.pump import open_pump
from trillm.errors import UpstreamFailed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


async def test_a_step_is_called_for_what_comes_until_it_says_enough(pair):
    ours, theirs = pair
    came: list[bytes] = []

    def step() -> bool:
        came.append(ours.recv(100))
        if came[-1] == b"one":
            theirs.send(b"two")
        return came[-1] == b"two"

    with trio.fail_after(5):
        async with open_pump() as pump:
            theirs.send(b"one")
            await pump.attend(ours, step)
            theirs.send(b"three")
            await trio.sleep(0.01)

    assert came == [b"one", b"two"]


async def test_what_a_step_raises_is_raised_where_it_is_waited_for(pair):
    ours, theirs = pair

    def step() -> bool:
        raise UpstreamFailed("broken")

    with trio.fail_after(5):
        async with open_pump() as pump:
            theirs.send(b"x")
            with pytest.raises(UpstreamFailed, match="broken"):
                await pump.attend(ours, step)


async def test_who_is_cancelled_is_not_attended_any_more(pair):
    ours, theirs = pair
    called = []

    with trio.fail_after(5):
        async with open_pump() as pump:
            with trio.move_on_after(0.01):
                await pump.attend(ours, lambda: False)
            theirs.send(b"x")
            await trio.sleep(0.01)
            await pump.attend(ours, lambda: called.append(ours.recv(1)) or True)

    assert called == [b"x"]
