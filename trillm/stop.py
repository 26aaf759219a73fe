"""How the process is told to stop, and how it ends even when something will not: the one place that knows signals.

First signal: drain. Second: at once. If the process is still there after its own deadline, a thread that no event loop
can block ends it. Windows has no SIGTERM to catch; there Ctrl+C and Ctrl+Break take its place.
"""

import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import trio

log = logging.getLogger(__name__)

# SIGTERM is a POSIX signal, SIGBREAK a Windows one.
SIGNALS = (signal.SIGINT, getattr(signal, "SIGBREAK", signal.SIGTERM))
#: Beyond the drain time, what a process gets before it is ended from outside the event loop.
BACKSTOP_S = 5.0
#: The exit status of a process that had to be ended by the backstop.
KILLED_STATUS = 70


async def watch_signals(
    first: trio.Event, second: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set ``first`` at the first signal and ``second`` at the second; never returns."""
    with trio.open_signal_receiver(*SIGNALS) as received:
        task_status.started()
        async for number in received:
            name = signal.Signals(number).name
            if first.is_set():
                log.warning("stopping at once signal=%s", name)
                second.set()
            else:
                log.info("stopping signal=%s (again: at once)", name)
                first.set()


async def until(event: trio.Event, action: Callable[[], Awaitable[None]]) -> None:
    """Run ``action``, but no longer than until ``event``."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await action()
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def hard_exit_after(seconds: float) -> Iterator[None]:
    """End the process with :data:`KILLED_STATUS` if the body has not ended after ``seconds``."""
    timer = threading.Timer(seconds, _exit)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def hard_exit_at_hang_up(descriptor: int, after_s: float) -> None:
    """End the process ``after_s`` seconds after the other end of a pair of sockets was closed, if it is still there."""

    def watch() -> None:
        line = select.poll()
        line.register(descriptor, select.POLLHUP)  # told without being asked for, but not everywhere
        while not any(events & ~select.POLLIN for _, events in line.poll()):
            time.sleep(1)
        time.sleep(after_s)
        _exit()

    threading.Thread(target=watch, name="hang-up", daemon=True).start()


def _exit() -> None:
    try:
        # Not through sys.stderr, whose lock may be held by what hangs, and not into a pipe that nobody reads.
        if select.select((), (2,), (), 0)[1]:
            os.write(2, b"trillm did not stop in time and ends now\n")
    finally:
        os._exit(KILLED_STATUS)
