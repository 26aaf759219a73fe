"""What is said at the end of a round of Trio's, when every task that was ready has run.

A send to a peer on this machine wakes it, and on a busy machine it takes the core from us at once: in the middle of the
round, for every answer, leaving cold caches behind. All of a round's small sends together wake each peer once.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from trio.lowlevel import TrioToken, add_instrument, current_trio_token, remove_instrument


class Outbox(trio.abc.Instrument):
    """Runs what was added to it before the round's wait.

    Args:
        nursery: for what cannot be sent without waiting.
        token: of the run this belongs to.
    """

    def __init__(self, nursery: trio.Nursery, token: TrioToken) -> None:
        self._nursery = nursery
        self._token = token
        self._waiting: list[Callable[[], None]] = []

    def add(self, send: Callable[[], None]) -> None:
        """Run ``send`` at the end of this round. It must not raise."""
        self._waiting.append(send)

    def wait_in_a_task(self, send: Callable[[], Awaitable[None]]) -> None:
        """Run ``send`` in a task of its own. It must not raise."""
        # The end of a round is no place to start a task: the coming wait was already decided to be a long one.
        self._token.run_sync_soon(self._nursery.start_soon, send)

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's name for the end of a round
        """Send."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for send in waiting:
                send()


@asynccontextmanager
async def open_outbox() -> AsyncIterator[Outbox]:
    """Yield an outbox for the time of the block; what is still in it at the end is sent."""
    async with trio.open_nursery() as nursery:
        outbox = Outbox(nursery, current_trio_token())
        add_instrument(outbox)
        try:
            yield outbox
        finally:
            remove_instrument(outbox)
            outbox.before_io_wait(0)
        nursery.cancel_scope.cancel()
