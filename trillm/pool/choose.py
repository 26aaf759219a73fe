"""Who serves the next request: pure functions over the members' state, deciding at once and waiting never."""

import math
import random
from collections.abc import Callable, Collection, Sequence

from attrs import evolve, frozen

from trillm.models import Capability
from trillm.pool.member import Member


@frozen
class Candidate:
    """A server that has the model.

    Args:
        member: the server.
        model: the model's name there.
        capabilities: what the server says the model can do there; empty when it does not tell.
    """

    member: Member
    model: str
    capabilities: frozenset[Capability] = frozenset()

    def may(self, capability: Capability) -> bool:
        """Tell whether it has not said that it cannot."""
        return not self.capabilities or capability in self.capabilities

    @property
    def full_until(self) -> float:
        """When there may be room again, as far as the server told; minus infinity if it never said that it is full."""
        full = self.member.full
        return -math.inf if full is None else full.until(self.model)

    def ready(self, now: float) -> bool:
        """Tell whether a request may be sent there at ``now``, slots aside."""
        return self.member.usable(now) and self.full_until <= now


@frozen
class Plan:
    """Where one request may go.

    Args:
        name: the model name the caller used.
        primary: served from first, by least load.
        fallback: in this order, only when no primary can serve.
    """

    name: str
    primary: tuple[Candidate, ...]
    fallback: tuple[Candidate, ...] = ()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Everyone, primaries first."""
        return self.primary + self.fallback

    def of_those_who(self, may: Callable[[Candidate], bool]) -> "Plan":
        """Return the plan with some of the candidates only."""
        return evolve(self, primary=tuple(filter(may, self.primary)), fallback=tuple(filter(may, self.fallback)))


@frozen
class Picked:
    """This one, now."""

    candidate: Candidate


@frozen
class Wait:
    """One of these will do as soon as it has a slot."""

    candidates: tuple[Candidate, ...]


@frozen
class Hopeless:
    """None of them can serve."""


def choose(plan: Plan, now: float, *, tried: Collection[Member] = ()) -> Picked | Wait | Hopeless:
    """Decide for one request at ``now`` (seconds on the members' clock).

    A primary without a free slot is waited for; a fallback is for primaries that are down, said that they are full, or
    already failed this request. Only where everyone said so are they asked again, who asked for the least time first.
    Members in ``tried`` are left out.
    """
    usable = _usable(plan.primary, now, tried)
    free = [c for c in usable if (c.member.full is None or c.full_until <= now) and c.member.has_slot]
    return Picked(_least_loaded(free)) if free else _second_best(plan, usable, now, tried)


def _second_best(
    plan: Plan, primary: Sequence[Candidate], now: float, tried: Collection[Member]
) -> Picked | Wait | Hopeless:
    """Decide where none of the usable ``primary`` has room now."""
    with_room = [candidate for candidate in primary if candidate.full_until <= now]
    if with_room:
        return Wait(tuple(with_room))
    fallback = _usable(plan.fallback, now, tried)
    for candidate in fallback:
        if candidate.full_until <= now:
            return Picked(candidate) if candidate.member.has_slot else Wait((candidate,))
    full = primary or fallback[:1]
    free = [candidate for candidate in full if candidate.member.has_slot]
    if free:
        return Picked(min(free, key=lambda candidate: candidate.full_until))
    return Wait(tuple(full)) if full else Hopeless()


def _usable(candidates: Sequence[Candidate], now: float, tried: Collection[Member]) -> Sequence[Candidate]:
    if tried:
        candidates = [candidate for candidate in candidates if candidate.member not in tried]
    return [candidate for candidate in candidates if candidate.member.usable(now)]


def _least_loaded(free: Sequence[Candidate]) -> Candidate:
    """Least requests per weight; a draw is decided by lot, so that equals share evenly."""
    if len(free) == 1:
        return free[0]
    least, best = math.inf, []
    for candidate in free:
        member = candidate.member
        load = (member.in_flight + member.elsewhere + 1) / member.server.weight
        if load < least:
            least, best = load, [candidate]
        elif load == least:
            best.append(candidate)
    return random.choice(best)  # noqa: S311 - no secret is drawn here
