"""Many sockets watched by one task: an epoll set of our own, inside the one that Trio waits on.

Trio wakes a task per socket, which costs more than moving a token's bytes. Here one task sleeps until any of its
sockets is ready and runs plain callbacks for all of them in one wake. Linux only; :func:`open_poller` yields None
elsewhere, and whoever would use it does with a task of its own.
"""

import logging
import select
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from attrs import define, field
from trio.lowlevel import wait_readable

log = logging.getLogger(__name__)

#: Whether this system has epoll.
AVAILABLE = sys.platform == "linux"

if sys.platform == "linux":
    READABLE = select.EPOLLIN
    #: The peer closed, or closed its sending half. Once is enough.
    HUNG_UP = select.EPOLLRDHUP | select.EPOLLONESHOT
else:  # never used: there is no poller
    READABLE = HUNG_UP = 0


@define(eq=False)
class Poller:
    """The epoll set and its callbacks. A callback decides at once and never raises for others to handle."""

    _epoll: "select.epoll"
    #: When it last looked, on Trio's clock: the time of whatever a callback does.
    now: float = field(default=0.0, init=False)
    _callbacks: dict[int, Callable[[], None]] = field(factory=dict, init=False)
    _last: list[Callable[[], None]] = field(factory=list, init=False)

    @contextmanager
    def watching(self, sock: socket.socket, events: int, callback: Callable[[], None]) -> Iterator[None]:
        """Run ``callback`` whenever ``sock`` is ready for ``events``, for the time of the block.

        One socket can be watched once at a time, and must stay open until the block ends.
        """
        number = sock.fileno()
        self._epoll.register(number, events)
        self._callbacks[number] = callback
        try:
            yield
        finally:
            del self._callbacks[number]
            self._epoll.unregister(number)

    def at_last(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` when all others of this round have run; for callbacks only."""
        self._last.append(callback)

    def poll(self) -> None:
        """Run the callbacks of every socket that is ready now."""
        self.now = trio.current_time()
        for number, _ in self._epoll.poll(0):
            callback = self._callbacks.get(number)
            if callback is not None:  # else an earlier callback of this round ended its watch
                _run(callback)
        last, self._last = self._last, []
        for callback in last:
            _run(callback)

    async def serve(self) -> None:
        """Poll for ever."""
        while True:
            await wait_readable(self._epoll.fileno())
            self.poll()


def _run(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("callback failed")


@asynccontextmanager
async def open_poller() -> AsyncIterator[Poller | None]:
    """Yield a poller that is served, or None where the system has no epoll."""
    if sys.platform != "linux" or not AVAILABLE:  # mypy knows the first, tests turn the second
        yield None
        return
    with select.epoll() as epoll:
        poller = Poller(epoll)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.serve)
            yield poller
            nursery.cancel_scope.cancel()
