"""Who holds a slot and who waits for one: the queue of the whole pool.

Every decision is a synchronous function that changes all shared state at once; a request only ever awaits its turn.
A slot that becomes free goes straight to the first waiting request that can use it, so nobody is overtaken.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import trio
from attrs import define, field, frozen

from trillm.budget import Budget, Phase
from trillm.errors import Overloaded, TrillmError, Unavailable
from trillm.pool.breaker import Probe
from trillm.pool.choose import Candidate, Hopeless, Picked, Plan, Wait, choose
from trillm.pool.member import Member


class Shares(Protocol):
    """Where other processes use the same servers: sees to :attr:`Member.share`, and is told what happens here."""

    def members(self, members: Iterable[Member]) -> None:
        """These are served now, and so many slots they have."""

    def changed(self, member: Member) -> None:
        """A request waits for it, or waits no more, or gave back its slot, which nobody else has yet."""


@frozen(eq=False)
class Slot:
    """A slot that is taken.

    Args:
        candidate: whose.
        probe: what its outcome is to be told with, if its server's breaker is half-open.
        taken_at: on the pool's clock.
    """

    candidate: Candidate
    probe: Probe | None
    taken_at: float


@define(eq=False)
class _Waiter:
    """A request in the queue. Exactly one of ``granted`` and ``error`` is set before it is woken.

    Args:
        plan: who may serve it.
        tried: who already failed it.
        members: whose slots it waits for.
    """

    plan: Plan
    tried: Collection[Member]
    members: frozenset[Member]
    woken: trio.Event = field(factory=trio.Event)
    granted: Slot | None = None
    error: TrillmError | None = None
    #: The same for all who wait for the same.
    wish: tuple[int, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.wish = (id(self.plan), *map(id, self.tried))


@define(eq=False)
class Slots:
    """See the module's docstring.

    Args:
        now: the clock of the members' breakers.
        max_waiting: requests that may queue; one more is shed.
        shares: see :class:`Shares`; None: this process has all slots to itself.
    """

    now: Callable[[], float]
    max_waiting: int
    shares: Shares | None = field(default=None, init=False)
    #: First come first; a dictionary, because anyone may leave.
    _waiters: dict[_Waiter, None] = field(factory=dict, init=False)
    _wishes: Counter[tuple[int, ...]] = field(factory=Counter, init=False)

    def take(self, plan: Plan, tried: Collection[Member]) -> Slot | Wait:
        """Take a slot if one is free, or say what to :meth:`wait` for. For :class:`Lease`, which gives it back.

        Raises:
            Unavailable: no server of the plan is up.
        """
        if self._waiters:
            self.serve_waiters()  # a breaker that became half-open has told nobody
        now = self.now()
        decision = choose(plan, now, tried=tried)
        if isinstance(decision, Picked):
            return self._take(decision.candidate, now)
        if isinstance(decision, Hopeless):
            raise _nobody(plan)
        return decision

    async def wait(self, wait: Wait, plan: Plan, budget: Budget, tried: Collection[Member]) -> Slot:
        """Wait for a slot, when :meth:`take` has just found none.

        Raises:
            Unavailable: no server of the plan is up any more.
            Overloaded: the queue is full or too slow for the budget.
        """
        budget.phase = Phase.QUEUE
        waiter = _Waiter(plan, tried, frozenset(candidate.member for candidate in wait.candidates))
        self._shed(waiter, budget)
        return await self._wait(waiter)

    async def _wait(self, waiter: _Waiter) -> Slot:
        self._queue(waiter)
        try:
            await waiter.woken.wait()
        except BaseException:
            if waiter.granted is not None:  # in the same moment
                self.release(waiter.granted, told=False)
            raise
        finally:
            self._leave_queue(waiter)
        if waiter.granted is None:
            raise waiter.error or _nobody(waiter.plan)
        return waiter.granted

    def _queue(self, waiter: _Waiter) -> None:
        self._waiters[waiter] = None
        self._wishes[waiter.wish] += 1
        for member in waiter.members:
            member.waiting += 1
            if self.shares is not None:
                self.shares.changed(member)

    def _leave_queue(self, waiter: _Waiter) -> None:
        """Take ``waiter`` out, unless it is out already."""
        if waiter not in self._waiters:
            return
        del self._waiters[waiter]
        self._wishes -= Counter((waiter.wish,))
        for member in waiter.members:
            member.waiting -= 1
            if self.shares is not None:
                self.shares.changed(member)

    def _take(self, candidate: Candidate, now: float) -> Slot:
        member = candidate.member
        member.in_flight += 1
        return Slot(candidate, member.breaker.sent(now), now)

    def release(self, slot: Slot, *, told: bool) -> None:
        """Take a slot back. For :class:`Lease`.

        Args:
            slot: which one.
            told: whether it was said how the request went.
        """
        if not told:
            slot.candidate.member.breaker.undecided(slot.probe)
        slot.candidate.member.in_flight -= 1
        if self.shares is not None:
            self.shares.changed(slot.candidate.member)
        if self._waiters:
            self.serve_waiters()

    def serve_waiters(self) -> None:
        """Give what is free to who waits, first come, first served."""
        unmet: set[tuple[int, ...]] = set()
        for waiter in tuple(self._waiters):
            # The queue may be long, and a wish that one has to go on waiting for need not be looked at again.
            if len(unmet) == len(self._wishes):
                return
            if waiter.wish in unmet:
                continue
            now = self.now()
            decision = choose(waiter.plan, now, tried=waiter.tried)
            if isinstance(decision, Wait):
                unmet.add(waiter.wish)
                continue
            if isinstance(decision, Picked):
                waiter.granted = self._take(decision.candidate, now)
            else:
                waiter.error = _nobody(waiter.plan)
            self._leave_queue(waiter)
            waiter.woken.set()

    def _shed(self, waiter: _Waiter, budget: Budget) -> None:
        """Refuse at once what would only wait in vain."""
        wait_s = expected_wait_s(waiter.members)
        if len(self._waiters) >= self.max_waiting:
            busy = f"Every server of {waiter.plan.name!r} is busy and the queue is full."
            raise Overloaded(busy, retry_after_s=wait_s or 1.0)
        if wait_s > budget.left_s():
            raise Overloaded(
                f"Every server of {waiter.plan.name!r} is busy: a slot is expected in {wait_s:.1f} s, "
                f"the budget has {max(0.0, budget.left_s()):.1f} s left.",
                retry_after_s=wait_s,
            )


def expected_wait_s(members: Collection[Member]) -> float:
    """Estimate the wait for a slot of any of ``members`` in seconds: median service time x position / slots.

    0 while nothing is known.
    """
    slots = sum(member.limit or 0 for member in members)
    known = [s for member in members if (s := member.service.percentile(0.5)) is not None]
    if not known or not slots:
        return 0.0
    ahead = max(member.waiting + member.waiting_elsewhere for member in members)  # most of them wait for the others too
    return min(known) * (ahead + 1) / slots


def _nobody(plan: Plan) -> Unavailable:
    if not plan.candidates:
        return Unavailable(f"No enabled server serves {plan.name!r}.")
    reasons = {c.member.name: c.member.complaint for c in plan.candidates}
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return Unavailable(f"No server of {plan.name!r} can be reached now ({listed}).")
