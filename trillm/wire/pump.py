"""Carries the bytes of many streams in one task, while each stream's own task sleeps inside its own scope.

The own task keeps scope, slot, connection and deadline; it is woken when its stream ends, fails or stalls, or when the
receiver does not take what it is sent. Per wake the kernel is asked once for all streams that have something to read.
"""

from collections.abc import Callable

import trio
from attrs import define, field

from trillm.wire.poller import READABLE, Poller
from trillm.wire.stream import RECEIVE_BYTES, RawStream

#: Takes the bytes of one wake (``b""``: the peer closed) and its time; returns what is to be sent on, maybe nothing
#: yet, or None if the pump can do no more for this stream. Never waits.
Take = Callable[[bytes, float], bytes | None]
#: Sends without waiting; returns whether all of it went.
Send = Callable[[bytes], bool]


@define(eq=False)
class _Carried:
    """One stream in the pump."""

    poller: Poller
    stream: RawStream
    take: Take
    send: Send
    last: float
    left: trio.Event = field(factory=trio.Event)
    error: Exception | None = None
    _out: bytes = b""

    def readable(self) -> None:
        if self.left.is_set():
            return  # its own task has it back, but has not run yet
        try:
            data = self.stream.receive_now(RECEIVE_BYTES)
            if data is None:
                return
            self.last = self.poller.now
            out = self.take(data, self.last)
        except Exception as exc:  # noqa: BLE001 - raised in the stream's own task
            self._leave(exc)
            return
        if out is None:
            self._leave()
        elif out:
            self._out = out
            # In one go for all streams: a receiver that is awake already is not woken again by each of them.
            self.poller.at_last(self._send_on)

    def _send_on(self) -> None:
        try:
            if not self.send(self._out):
                self._leave()
        except Exception as exc:  # noqa: BLE001 - raised in the stream's own task
            self._leave(exc)

    def _leave(self, error: Exception | None = None) -> None:
        self.error = error
        self.left.set()


@define
class Pump:
    """See the module's docstring."""

    poller: Poller

    async def carry(self, stream: RawStream, take: Take, send: Send, *, stall_s: float) -> bool:
        """Hand whatever comes from ``stream`` to ``take`` and what that returns to ``send``, until one of them ends it.

        Returns:
            False if nothing came for ``stall_s`` seconds, else True.

        Raises:
            Exception: what ``take`` or ``send`` raised.
            trio.BrokenResourceError: the connection broke.
        """
        carried = _Carried(self.poller, stream, take, send, trio.current_time())
        with self.poller.watching(stream.socket, READABLE, carried.readable):
            while not carried.left.is_set():
                with trio.move_on_at(carried.last + stall_s):
                    await carried.left.wait()
                if not carried.left.is_set() and trio.current_time() >= carried.last + stall_s:
                    return False
        if carried.error is not None:
            raise carried.error
        return True
