"""How modules tell each other what happened: typed, past-tense events, delivered as callbacks.

The hub owns one bounded memory channel and one task per subscription, so a slow or broken listener can neither delay
the publisher nor hurt another listener. It never carries questions: whoever needs an answer now awaits a plain call.
Started by :mod:`trillm.app` as a service that outlives every other.
"""

import enum
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
from attrs import define, field, validators

log = logging.getLogger(__name__)

E = TypeVar("E")
Callback = Callable[[E], Awaitable[None] | None]


class WhenFull(enum.Enum):
    """What happens to an event whose subscriber has not kept up."""

    COALESCE = "coalesce"  # the waiting events are forgotten, the newest is kept: for "look again" events
    DROP = "drop"  # the event is counted and dropped: for statistics
    CUT = "cut"  # the subscription ends: for listeners that must see all or nothing


@define(eq=False)
class Subscription:
    """One listener: its event types, its channel, and what it lost.

    Args:
        types: the event classes it listens to.
        callback: plain or async function of one event. What it raises is logged and ends nothing else.
        when_full: see :class:`WhenFull`.
        size: how many events may wait, at least 1.
        lost: how many were forgotten or dropped.
    """

    types: tuple[type[Any], ...]
    callback: Callback[Any]
    when_full: WhenFull
    size: int = field(validator=validators.ge(1))
    lost: int = 0
    _send: trio.MemorySendChannel[Any] = field(init=False, repr=False)
    _receive: trio.MemoryReceiveChannel[Any] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # Bounded by the subscriber's own choice; `when_full` says what happens then.
        self._send, self._receive = trio.open_memory_channel(self.size)

    def close(self) -> None:
        """Take no more events; those that wait are still delivered."""
        self._send.close()

    @property
    def name(self) -> str:
        """The callback's name, for logs."""
        return getattr(self.callback, "__qualname__", repr(self.callback))

    def offer(self, event: object) -> None:
        """Queue one event, or do what :attr:`when_full` says. Once closed, nothing."""
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self._overflow(event)
        except trio.ClosedResourceError:
            pass  # it waits only for its last events to be delivered

    def _overflow(self, event: object) -> None:
        if self.when_full is WhenFull.COALESCE:
            self.lost += self._forget_waiting()
            self._send.send_nowait(event)
            return
        self.lost += 1
        if self.when_full is WhenFull.CUT:
            log.warning("subscriber cut subscriber=%s waiting=%d", self.name, self.size)
            self.close()

    def _forget_waiting(self) -> int:
        forgotten = 0
        while self._receive.statistics().current_buffer_used:
            self._receive.receive_nowait()
            forgotten += 1
        return forgotten

    async def deliver(self) -> None:
        """Run the callback for each event until the subscription is closed."""
        with self._receive:
            async for event in self._receive:
                try:
                    outcome = self.callback(event)
                    if outcome is not None:
                        await outcome
                except Exception:
                    # The event's type only: its members may be a caller's.
                    log.exception("subscriber failed subscriber=%s event=%s", self.name, type(event).__name__)


@define
class Hub:
    """Where modules publish and subscribe. See the module's docstring."""

    _subscriptions: list[Subscription] = field(factory=list, init=False)
    _nursery: trio.Nursery | None = field(default=None, init=False)

    def on(
        self, *types: type[Any], when_full: WhenFull = WhenFull.DROP, size: int = 256
    ) -> Callable[[Callback[E]], Callback[E]]:
        """Register the decorated function for ``types``; before or after the hub has started.

        Args:
            types: event classes; subclasses count too.
            when_full: what happens to an event when ``size`` events already wait.
            size: how many events may wait, at least 1.
        """

        def register(callback: Callback[E]) -> Callback[E]:
            self.subscribe(callback, *types, when_full=when_full, size=size)
            return callback

        return register

    def subscribe(
        self, callback: Callback[Any], *types: type[Any], when_full: WhenFull = WhenFull.DROP, size: int = 256
    ) -> Subscription:
        """As :meth:`on`, and return the subscription, for who wants to close it again."""
        subscription = Subscription(types, callback, when_full, size)
        self._subscriptions.append(subscription)
        if self._nursery is not None:
            self._nursery.start_soon(self._deliver, subscription)
        return subscription

    def publish(self, event: object) -> None:
        """Hand ``event`` to everyone who listens for its type. Never waits, never raises for a listener's sake."""
        for subscription in tuple(self._subscriptions):
            if isinstance(event, subscription.types):
                subscription.offer(event)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver events until cancelled. Started once, before any module that publishes."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for subscription in self._subscriptions:
                    nursery.start_soon(self._deliver, subscription)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _deliver(self, subscription: Subscription) -> None:
        try:
            await subscription.deliver()
        finally:
            # Cancelled too: while the program stops, others still publish.
            self._subscriptions.remove(subscription)
