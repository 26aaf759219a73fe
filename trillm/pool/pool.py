"""Who serves and how well: the servers there are, what is found out about them, and the leases of their slots.

Every decision is a synchronous function that changes all shared state at once; only the wait for a slot awaits, in
:mod:`trillm.pool.slots`. A slot is held by a :class:`Lease` and given back when its ``with`` block ends.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from types import TracebackType
from typing import Self

import trio
from attrs import define, field

from trillm.budget import Budget
from trillm.errors import TrillmError
from trillm.models import Found
from trillm.pool.breaker import BreakerState
from trillm.pool.catalog import Catalog, build_catalog
from trillm.pool.choose import Plan, Wait
from trillm.pool.events import BackendStateChanged, ModelsChanged
from trillm.pool.fullness import Fullness
from trillm.pool.member import Member, Source, State
from trillm.pool.slots import Slot, Slots
from trillm.registry.document import Route, Server


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
    slots: Slots = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.catalog = Catalog({}, {})
        self.slots = Slots(self.now, self.max_waiting)

    # Who is there.

    def configure(self, servers: Iterable[tuple[Server, Source]], routes: Mapping[str, Route]) -> None:
        """Serve exactly these servers and routes from now on. Requests under way keep the server they have."""
        self._routes = routes
        wanted = {server.name: (server, source) for server, source in servers}
        before, self.members = self.members, {name: self._member(*wanted[name]) for name in wanted}
        for name, member in before.items():
            member.removed = self.members.get(name) is not member
        self._rebuild()
        self.changed.set()
        self.changed = trio.Event()

    def _member(self, server: Server, source: Source) -> Member:
        member = self.members.get(server.name)
        if member is None or member.server.url != server.url or member.server.kind != server.kind:
            return Member(server, source, share=None if self.slots.shares is None else 0)
        member.server, member.source = server, source
        return member

    def probed(self, member: Member, outcome: Found | TrillmError, *, began: float = math.inf) -> None:
        """Take in what a probe of ``member`` found, or why it failed.

        One that failed means nothing if the server has answered a request well since it ``began``: whoever is busy
        answering, or shares a machine that is, may miss a probe.
        """
        if member.removed or (not isinstance(outcome, Found) and member.answered > began):
            return
        before, known = member.state(self.now()), member.found
        if isinstance(outcome, Found):
            member.found, member.reachable = outcome, True
            if member.breaker.state(self.now()) is BreakerState.CLOSED:
                member.last_error = None
        else:
            member.reachable, member.last_error, member.elsewhere = False, outcome.message, 0
        self._tell(member, before)
        if known != member.found or before is not member.state(self.now()):
            self._rebuild()

    def loaded(self, member: Member, requests: int | None) -> None:
        """Take in how many requests ``member`` says that it has, ours among them."""
        member.elsewhere = max(0, (requests or 0) - member.in_flight)

    def _rebuild(self) -> None:
        names = tuple(self.catalog.entries)
        self.catalog = build_catalog(self.members, self._routes.values())
        if names != tuple(self.catalog.entries):
            self.publish(ModelsChanged(tuple(self.catalog.entries)))
        if self.slots.shares is not None:
            self.slots.shares.members(self.members.values())
        self.slots.serve_waiters()

    def _tell(self, member: Member, before: State) -> None:
        # Busy comes and goes with every request, and is up.
        before, after = (State.UP if s is State.BUSY else s for s in (before, member.state(self.now())))
        if after is not before:
            self.publish(BackendStateChanged(member.name, before, after, member.last_error))

    # Who works.

    def lease(self, plan: Plan, budget: Budget, *, tried: Collection[Member] = ()) -> "Lease":
        """Return the context manager that waits for a slot of one of the plan's servers and holds it.

        Args:
            plan: who may serve.
            budget: a wait that cannot fit it is not begun.
            tried: members that already failed this request.
        """
        return Lease(self, plan, budget, tried)

    def answering(self, slot: Slot) -> None:
        """The server has begun to answer."""
        member = slot.candidate.member
        before = member.state(self.now())
        member.breaker.answering(slot.probe)
        self._tell(member, before)

    def succeeded(self, slot: Slot) -> None:
        """The server answered well."""
        member = slot.candidate.member
        if member.breaker.untroubled:
            return
        before = member.state(self.now())
        member.breaker.succeeded()
        self._tell(member, before)

    def full(self, slot: Slot, retry_after_s: float | None) -> None:
        """The server said that it is full."""
        member = slot.candidate.member
        member.full = member.full or Fullness()
        member.full.refused(slot.candidate.model, self.now(), retry_after_s)

    def failed(self, slot: Slot, error: TrillmError) -> None:
        """The server failed: never called for what the caller did."""
        member = slot.candidate.member
        before = member.state(self.now())
        member.last_error = error.message
        member.breaker.failed(self.now(), slot.probe)
        self._tell(member, before)


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
    #: The server, and the model's name there, once the block is entered.
    member: Member = field(init=False)
    model: str = field(init=False)
    #: On the pool's clock.
    taken_at: float = field(init=False)
    _slot: Slot = field(init=False)
    _told: bool = field(default=False, init=False)

    async def __aenter__(self) -> Self:
        slots = self._pool.slots
        taken = slots.take(self._plan, self._tried)
        if isinstance(taken, Wait):
            taken = await slots.wait(taken, self._plan, self._budget, self._tried)
        self._slot, self.taken_at = taken, taken.taken_at
        self.member, self.model = taken.candidate.member, taken.candidate.model
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._pool.slots.release(self._slot, told=self._told)

    def answering(self) -> None:
        """The first content of a stream is there."""
        self.member.answered = self._pool.now()
        if self._slot.probe is not None:
            self._pool.answering(self._slot)

    def succeeded(self) -> None:
        """The server answered well and to the end."""
        self._told = True
        self.member.answered = now = self._pool.now()
        self.member.service.add(now - self.taken_at)
        self._pool.succeeded(self._slot)
        if self.member.full is not None:
            self.member.full.answered(self.model)
            self.member.full = None if self.member.full.over else self.member.full

    def full(self, retry_after_s: float | None) -> None:
        """The server is full: neither well nor ill. It asked to be left alone for so long, if it said so."""
        self._pool.full(self._slot, retry_after_s)

    @property
    def silent(self) -> bool:
        """Whether the server has not answered anybody since this slot was taken."""
        return self.member.answered <= self.taken_at

    def failed(self, error: TrillmError) -> None:
        """The server failed, by its own fault."""
        self._told = True
        self._pool.failed(self._slot, error)
