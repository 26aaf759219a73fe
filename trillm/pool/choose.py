"""Who serves the next request: pure functions over the members' state, deciding at once and waiting never."""

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

    A primary without a free slot is waited for; a fallback is for primaries that are down or already failed this
    request. Members in ``tried`` are left out.
    """
    usable = _usable(plan.primary, now, tried)
    if not usable:
        usable = _usable(plan.fallback, now, tried)[:1]
    if not usable:
        return Hopeless()
    free = [candidate for candidate in usable if candidate.member.has_slot]
    return Picked(_least_loaded(free)) if free else Wait(tuple(usable))


def _usable(candidates: Sequence[Candidate], now: float, tried: Collection[Member]) -> list[Candidate]:
    return [c for c in candidates if c.member not in tried and c.member.usable(now)]


def _least_loaded(free: list[Candidate]) -> Candidate:
    """Least requests in flight per weight; a draw is decided by lot, so that equals share evenly."""
    if len(free) == 1:
        return free[0]
    # No secret is drawn here.
    return min(free, key=lambda c: ((c.member.in_flight + 1) / c.member.server.weight, random.random()))  # noqa: S311
