"""Looks after every server's health with cheap requests: never a generation, never waking a sleeping model."""

import logging
import math
from collections import Counter

import trio
from attrs import define, field, frozen

from trillm.backends.base import Site
from trillm.backends.detect import inspect
from trillm.errors import TrillmError, UpstreamFailed
from trillm.models import Found
from trillm.pool.member import Member
from trillm.pool.pool import Pool
from trillm.wire.control import Control

log = logging.getLogger(__name__)


class Unanswered(UpstreamFailed):
    """A probe got no answer in time: the server is stuck, or busy, or its machine is."""


@frozen
class ProbeSettings:
    """How often and how long.

    Args:
        every_s: seconds between two probes of a server that is up.
        down_every_s: seconds between two probes of one that is down.
        within_s: seconds a probe may take.
        first_round_s: seconds the start waits for the first answers.
        misses: probes in a row that a server which was up may leave unanswered until it counts as down. One that
            refuses connections, or answers with an error, is down at once.
    """

    every_s: float = 5.0
    down_every_s: float = 1.0
    within_s: float = 3.0
    first_round_s: float = 1.0
    misses: int = 3


@define
class _Schedule:
    """When each member is next due. Members are compared by identity: one that was replaced is a new one."""

    settings: ProbeSettings
    _due: dict[Member, float] = field(factory=dict, init=False)
    _missed: Counter[Member] = field(factory=Counter, init=False)

    def take_due(self, members: list[Member], now: float) -> list[Member]:
        """Return who is to be probed now; they are not due again until :meth:`done`."""
        enabled = [member for member in members if member.server.enabled]
        self._due = {member: self._due.get(member, now) for member in enabled}
        due = [member for member, at in self._due.items() if at <= now]
        self._due |= dict.fromkeys(due, math.inf)
        self._missed = Counter({member: n for member, n in self._missed.items() if member in self._due})
        return due

    def conclusive(self, member: Member, outcome: Found | TrillmError, began: float) -> bool:
        """Note the outcome of a probe that ``began`` then; tell whether it says how ``member`` is doing."""
        if not isinstance(outcome, Unanswered) or member.answered > began:
            del self._missed[member]
            return True
        self._missed[member] += 1
        return not member.reachable or self._missed[member] >= self.settings.misses

    def done(self, member: Member, now: float) -> None:
        """Note that a probe of ``member`` has ended."""
        well = member.reachable and not self._missed[member]
        pause_s = self.settings.every_s if well else self.settings.down_every_s
        self._due[member] = now + pause_s

    def next_at(self) -> float:
        """Return when the next one is due."""
        return min(self._due.values(), default=math.inf)


async def serve_probes(
    pool: Pool,
    http: Control,
    *,
    settings: ProbeSettings | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Probe every member of ``pool`` again and again; ready after the first round, or ``first_round_s``."""
    settings = settings or ProbeSettings()
    schedule = _Schedule(settings)
    first_round = _Countdown()

    async def probe(member: Member) -> None:
        began = trio.current_time()
        outcome = await probe_once(member, http, within_s=settings.within_s)
        if schedule.conclusive(member, outcome, began):
            pool.probed(member, outcome, began=began)
        if member in pool.catalog.pooled and member.reachable:
            pool.loaded(member, await ask_load(member, http, within_s=settings.within_s))
        schedule.done(member, trio.current_time())
        first_round.done(member)

    def start_due() -> list[Member]:
        due = schedule.take_due(list(pool.members.values()), trio.current_time())
        for member in due:
            nursery.start_soon(probe, member)
        return due

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(settings.first_round_s):
            await first_round.wait_for(start_due())
        task_status.started()
        while True:
            changed = pool.changed
            start_due()
            # At least every `down_every_s`, since a probe that ends sets its member's next turn.
            with trio.move_on_at(min(schedule.next_at(), trio.current_time() + settings.down_every_s)):
                await changed.wait()


async def probe_once(member: Member, http: Control, *, within_s: float) -> Found | TrillmError:
    """Ask one server what it is and has; an error is an outcome like any other."""
    server = member.server
    try:
        with trio.move_on_after(within_s):
            known = member.found if member.reachable else None
            return await inspect(http, server.url, kind=server.kind, api_key=server.api_key, known=known)
    except TrillmError as exc:
        return exc
    except Exception:
        # One server that answers what we do not expect must not end the probes of all others.
        log.exception("probe broken server=%s", member.name)
        return UpstreamFailed("trillm could not make sense of it; its log says why")
    return Unanswered(f"no answer to a probe within {within_s:g} s")


async def ask_load(member: Member, http: Control, *, within_s: float) -> int | None:
    """Return how many requests a server has; None if it does not tell in time, and may be well all the same."""
    server, backend = member.server, member.backend
    with trio.move_on_after(within_s):
        try:
            return await backend.load(Site(backend, http, server.url, server.api_key, member.found))
        except UpstreamFailed:
            return None
        except Exception:
            log.exception("load not understood server=%s", member.name)
    return None


@define
class _Countdown:
    """Wakes who waits until each of some members was probed once."""

    _left: set[Member] = field(factory=set, init=False)
    _over: trio.Event = field(factory=trio.Event, init=False)

    async def wait_for(self, members: list[Member]) -> None:
        self._left.update(members)
        if self._left:
            await self._over.wait()

    def done(self, member: Member) -> None:
        self._left.discard(member)
        if not self._left:
            self._over.set()
