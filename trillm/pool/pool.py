"""Who serves, how many at once, and who waits: the one owner of slots.

Every decision is a synchronous function that changes all shared state at once; a request only ever awaits its turn.
A slot is held by a :class:`Lease`, is given back when its ``with`` block ends, and goes straight to the first waiting
request that can use it, so nobody is overtaken.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from types import TracebackType
from typing import Self

import trio
from attrs import define, field

from trillm.budget import Budget, Phase
from trillm.errors import Overloaded, TrillmError, Unavailable
from trillm.models import Found
from trillm.pool.catalog import Catalog, build_catalog
from trillm.pool.choose import Candidate, Hopeless, Picked, Plan, Wait, choose
from trillm.pool.events import BackendStateChanged, ModelsChanged
from trillm.pool.member import Member, Source, State
from trillm.registry.document import Route, Server


@define(eq=False)
class _Waiter:
    """A request in the queue. Exactly one of ``granted`` and ``error`` is set before it is woken."""

    plan: Plan
    tried: Collection[Member]
    woken: trio.Event = field(factory=trio.Event)
    granted: Candidate | None = None
    error: TrillmError | None = None


@define(eq=False)
class Pool:
    """See the module's docstring.

    Args:
        publish: where events go.
        now: the clock that breakers and latencies are measured on.
        max_waiting: requests that may queue; one more is shed.
    """

    publish: Callable[[object], None]
    now: Callable[[], float] = trio.current_time
    max_waiting: int = 10_000
    members: dict[str, Member] = field(factory=dict, init=False)
    catalog: Catalog = field(init=False)
    changed: trio.Event = field(factory=trio.Event, init=False)
    _routes: Mapping[str, Route] = field(factory=dict, init=False)
    _waiters: list[_Waiter] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.catalog = Catalog({}, {})

    # Who is there.

    def configure(self, servers: Iterable[tuple[Server, Source]], routes: Mapping[str, Route]) -> None:
        """Serve exactly these servers and routes from now on. Requests under way keep the server they have."""
        self._routes = routes
        wanted = {server.name: (server, source) for server, source in servers}
        self.members = {name: self._member(*wanted[name]) for name in wanted}
        self._rebuild()
        self.changed.set()
        self.changed = trio.Event()

    def _member(self, server: Server, source: Source) -> Member:
        member = self.members.get(server.name)
        if member is None or member.server.url != server.url or member.server.kind != server.kind:
            return Member(server, source)
        member.server, member.source = server, source
        return member

    def probed(self, member: Member, outcome: Found | TrillmError) -> None:
        """Take in what a probe of ``member`` found, or why it failed."""
        before, known = member.state(self.now()), member.found
        if isinstance(outcome, Found):
            member.found, member.reachable, member.last_error = outcome, True, None
        else:
            member.reachable, member.last_error = False, outcome.message
        self._tell(member, before)
        if known != member.found or before is not member.state(self.now()):
            self._rebuild()

    def _rebuild(self) -> None:
        names = tuple(self.catalog.entries)
        self.catalog = build_catalog(self.members, self._routes.values())
        if names != tuple(self.catalog.entries):
            self.publish(ModelsChanged(tuple(self.catalog.entries)))
        self._serve_waiters()

    def _tell(self, member: Member, before: State) -> None:
        after = member.state(self.now())
        if after is not before and State.BUSY not in (before, after):
            self.publish(BackendStateChanged(member.name, before, after, member.last_error))

    # Slots.

    def lease(self, plan: Plan, budget: Budget, *, tried: Collection[Member] = ()) -> "Lease":
        """Return the context manager that waits for a slot of one of the plan's servers and holds it.

        Args:
            plan: who may serve.
            budget: a wait that cannot fit it is not begun.
            tried: members that already failed this request.
        """
        return Lease(self, plan, budget, tried)

    async def acquire(self, plan: Plan, budget: Budget, tried: Collection[Member]) -> Candidate:
        """Take a slot, waiting for one if need be. For :class:`Lease`, which gives it back.

        Raises:
            Unavailable: no server of the plan is up.
            Overloaded: all are busy, and the queue is full or too slow for the budget.
        """
        decision = choose(plan, self.now(), tried=tried)
        if isinstance(decision, Picked):
            return self._take(decision.candidate)
        if isinstance(decision, Hopeless):
            raise self._nobody(plan)
        budget.phase = Phase.QUEUE
        self._shed(decision, plan, budget)
        return await self._wait(_Waiter(plan, tried), decision)

    async def _wait(self, waiter: _Waiter, decision: Wait) -> Candidate:
        self._waiters.append(waiter)
        members = [candidate.member for candidate in decision.candidates]
        for member in members:
            member.waiting += 1
        try:
            await waiter.woken.wait()
        except trio.Cancelled:
            if waiter.granted is not None:
                self._release(waiter.granted)
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            for member in members:
                member.waiting -= 1
        if waiter.granted is None:
            raise waiter.error or self._nobody(waiter.plan)
        return waiter.granted

    def _take(self, candidate: Candidate) -> Candidate:
        candidate.member.in_flight += 1
        candidate.member.breaker.sent(self.now())
        return candidate

    def _release(self, candidate: Candidate) -> None:
        candidate.member.in_flight -= 1
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        """Give what is free to who waits, first come, first served."""
        for waiter in tuple(self._waiters):
            decision = choose(waiter.plan, self.now(), tried=waiter.tried)
            if isinstance(decision, Wait):
                continue
            if isinstance(decision, Picked):
                waiter.granted = self._take(decision.candidate)
            else:
                waiter.error = self._nobody(waiter.plan)
            self._waiters.remove(waiter)
            waiter.woken.set()

    def _shed(self, decision: Wait, plan: Plan, budget: Budget) -> None:
        """Refuse at once what would only wait in vain."""
        wait_s = expected_wait_s(decision, len(self._waiters))
        if len(self._waiters) >= self.max_waiting:
            raise Overloaded(f"Every server of {plan.name!r} is busy and the queue is full.", retry_after_s=wait_s)
        if wait_s > budget.left_s():
            raise Overloaded(
                f"Every server of {plan.name!r} is busy: a slot is expected in {wait_s:.1f} s, "
                f"the budget has {max(0.0, budget.left_s()):.1f} s left.",
                retry_after_s=wait_s,
            )

    def _nobody(self, plan: Plan) -> Unavailable:
        if not plan.candidates:
            return Unavailable(f"No enabled server serves {plan.name!r}.")
        reasons = {c.member.name: c.member.last_error or "failing" for c in plan.candidates}
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return Unavailable(f"No server of {plan.name!r} can be reached now ({listed}).")

    # Outcomes.

    def succeeded(self, member: Member) -> None:
        """The server answered well."""
        before = member.state(self.now())
        member.breaker.succeeded()
        self._tell(member, before)

    def failed(self, member: Member, error: TrillmError) -> None:
        """The server failed: never called for what the caller did."""
        before = member.state(self.now())
        member.last_error = error.message
        member.breaker.failed(self.now())
        self._tell(member, before)


def expected_wait_s(decision: Wait, ahead: int) -> float:
    """Estimate the wait for a slot in seconds: median service time x position / slots; 0 while nothing is known."""
    members = {id(c.member): c.member for c in decision.candidates}.values()
    slots = sum(member.limit or 0 for member in members)
    known = [s for member in members if (s := member.service.percentile(0.5)) is not None]
    if not known or not slots:
        return 0.0
    return min(known) * (ahead + 1) / slots


@define(eq=False)
class Lease:
    """``async with pool.lease(plan, budget) as lease``: one slot of ``lease.member``, freed at the end of the block.

    The holder says how it went (:meth:`succeeded`, :meth:`failed`); saying nothing counts as "cannot tell", which is
    what a client that left leaves behind.
    """

    _pool: Pool
    _plan: Plan
    _budget: Budget
    _tried: Collection[Member]
    _candidate: Candidate | None = field(default=None, init=False)
    _taken_at: float = field(default=0.0, init=False)
    _told: bool = field(default=False, init=False)

    async def __aenter__(self) -> Self:
        self._candidate = await self._pool.acquire(self._plan, self._budget, self._tried)
        self._taken_at = self._pool.now()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        candidate = self.candidate
        if not self._told:
            candidate.member.breaker.undecided()
        self._candidate = None
        self._pool._release(candidate)  # noqa: SLF001 - the lease is the other half of the pool

    @property
    def candidate(self) -> Candidate:
        """The server and its name for the model."""
        if self._candidate is None:
            raise RuntimeError("the lease is not held")
        return self._candidate

    @property
    def member(self) -> Member:
        """The server."""
        return self.candidate.member

    @property
    def model(self) -> str:
        """The model's name at that server."""
        return self.candidate.model

    def succeeded(self) -> None:
        """The server answered well and to the end."""
        self._told = True
        self.member.service.add(self._pool.now() - self._taken_at)
        self._pool.succeeded(self.member)

    def failed(self, error: TrillmError) -> None:
        """The server failed, by its own fault."""
        self._told = True
        self._pool.failed(self.member, error)
