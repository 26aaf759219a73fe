"""Carries the bytes of many streams in one task, while each stream's own task sleeps inside its own scope.

The own task keeps scope, slot, connection and deadline; it is woken when its stream ends, fails or stalls, or when the
receiver does not take what it is sent. Per wake the kernel is asked once for all streams that have something to read.
"""

from collections.abc import Callable

import trio
from attrs import define, field

from trillm.wire.net import RECEIVE_BYTES, RawStream
from trillm.wire.poller import READABLE, Poller

#: Takes the bytes of one wake (``b""``: the peer closed) and its time; returns whether to go on. Never waits.
Step = Callable[[bytes, float], bool]


@define(eq=False)
class _Carried:
    """One stream in the pump."""

    poller: Poller
    stream: RawStream
    step: Step
    last: float
    left: trio.Event = field(factory=trio.Event)
    error: Exception | None = None

    def readable(self) -> None:
        if self.left.is_set():
            return  # its own task has it back, but has not run yet
        try:
            data = self.stream.receive_now(RECEIVE_BYTES)
            if data is None:
                return
            self.last = self.poller.now
            if not self.step(data, self.last):
                self.left.set()
        except Exception as exc:  # noqa: BLE001 - raised in the stream's own task
            self.error = exc
            self.left.set()


@define
class Pump:
    """See the module's docstring."""

    poller: Poller

    async def carry(self, stream: RawStream, step: Step, *, stall_s: float) -> bool:
        """Run ``step`` on whatever comes from ``stream`` until it says that it is enough.

        Returns:
            False if nothing came for ``stall_s`` seconds, else True.

        Raises:
            Exception: what ``step`` raised.
            trio.BrokenResourceError: the connection broke.
        """
        carried = _Carried(self.poller, stream, step, trio.current_time())
        with self.poller.watching(stream.socket, READABLE, carried.readable):
            while not carried.left.is_set():
                with trio.move_on_at(carried.last + stall_s):
                    await carried.left.wait()
                if not carried.left.is_set() and trio.current_time() >= carried.last + stall_s:
                    return False
        if carried.error is not None:
            raise carried.error
        return True
