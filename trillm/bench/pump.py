"""One epoll set for all connections: what comes on any of them costs one wake of one task.

A Trio task that wakes for each piece of each stream would cost about as much as a gateway that is measured by it. So a
connection's own task sleeps while the pump calls its *step*. Linux only; elsewhere that task reads by itself.
"""

import select
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from attrs import define, field

from trillm.errors import TrillmError

Step = Callable[[], bool]


@define(eq=False)
class Pump:
    """See the module's docstring.

    Args:
        epoll: owned by :func:`open_pump`.
    """

    epoll: "select.epoll"
    _steps: dict[int, Callable[[], None]] = field(factory=dict, init=False)

    async def serve(self) -> None:
        """Call the steps of what is readable, for ever."""
        while True:
            await trio.lowlevel.wait_readable(self.epoll.fileno())
            for fd, _events in self.epoll.poll(0):
                self._steps[fd]()

    async def attend(self, sock: socket.socket, step: Step) -> None:
        """Sleep until ``step``, called whenever ``sock`` is readable, returns True or raises.

        Raises:
            TrillmError: the step raised it; likewise ``trio.BrokenResourceError``.
        """
        fd, over = sock.fileno(), trio.Event()
        failures: list[Exception] = []

        def ready() -> None:
            if over.is_set():
                return  # the sleeper has not had its turn yet
            try:
                ends = step()
            except (TrillmError, trio.BrokenResourceError) as exc:
                failures.append(exc)
                ends = True
            if ends:
                over.set()

        self._steps[fd] = ready
        self.epoll.register(fd, select.EPOLLIN)
        try:
            await over.wait()
        finally:
            self.epoll.unregister(fd)
            del self._steps[fd]
        for failure in failures:
            raise failure


@asynccontextmanager
async def open_pump() -> AsyncIterator[Pump | None]:
    """Run a pump for the time of the block; None where the system has no epoll."""
    if sys.platform != "linux":
        yield None
        return
    with select.epoll() as epoll:
        async with trio.open_nursery() as nursery:
            pump = Pump(epoll)
            nursery.start_soon(pump.serve)
            yield pump
            nursery.cancel_scope.cancel()
