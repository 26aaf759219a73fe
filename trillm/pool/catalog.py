"""Every public model name and who serves it: an immutable value, rebuilt whenever a server or a route changes.

A name means, in this order: a route; the bare name of a model, slashes and all, which pools every server that has it;
``server/model``. So what is listed is always what answers.
"""

import difflib
from collections.abc import Iterable, Mapping
from functools import cached_property

from attrs import evolve, field, frozen

from trillm.errors import BadRequest, NoSuchModel
from trillm.models import Capability, Model, Operation
from trillm.pool.choose import Candidate, Plan
from trillm.pool.member import Member
from trillm.registry.document import Budgets, Route, Target

_NO_BUDGETS = Budgets()
_LONGEST_NAME = 200


@frozen
class Entry:
    """One public name.

    Args:
        name: what a caller writes into ``model``.
        plan: who serves it.
        capabilities: what any of those servers says it can do; empty when none tells.
        budgets: the route's own, if it is one.
        is_route: whether an operator made this name.
        ranks_by_embeddings: whether servers that embed may rank too, see :class:`Route`.
        mcp_servers: whose tools a route adds to its chats.
        server_budgets: of its servers, each once.
    """

    name: str
    plan: Plan
    capabilities: frozenset[Capability] = frozenset()
    budgets: Budgets = _NO_BUDGETS
    is_route: bool = False
    ranks_by_embeddings: bool = False
    mcp_servers: tuple[str, ...] = ()
    server_budgets: tuple[Budgets, ...] = field(init=False)

    @server_budgets.default
    def _distinct(self) -> tuple[Budgets, ...]:
        # Asked for with every request, and 200 servers mostly have the same.
        return tuple(dict.fromkeys(candidate.member.server.budgets for candidate in self.plan.candidates))

    def able(self, operation: Operation) -> "Entry":
        """Return the entry without the servers that say they cannot do ``operation`` with it."""
        wanted = operation.capability
        if all(candidate.may(wanted) for candidate in self.plan.candidates):
            return self
        other = Capability.EMBEDDINGS if self.ranks_by_embeddings and operation is Operation.RERANK else wanted
        return evolve(self, plan=self.plan.of_those_who(lambda who: who.may(wanted) or who.may(other)))

    @property
    def context_length(self) -> int | None:
        """The tokens that each of its servers takes, as far as they tell."""
        lengths = (
            model.context_length
            for candidate in self.plan.candidates
            for model in candidate.member.models
            if model.id == candidate.model
        )
        return min((length for length in lengths if length is not None), default=None)

    @property
    def available(self) -> bool:
        """Whether a server that has it is up, as far as probes tell."""
        return any(c.member.server.enabled and c.member.reachable is not False for c in self.plan.candidates)


@frozen
class Catalog:
    """All names at one moment. One request uses one catalog throughout."""

    entries: Mapping[str, Entry]
    members: Mapping[str, Member]

    @cached_property
    def pooled(self) -> frozenset[Member]:
        """Who is one of several that serve a name."""
        plans = (entry.plan.primary for entry in self.entries.values())
        return frozenset(candidate.member for plan in plans if len(plan) > 1 for candidate in plan)

    def resolve(self, name: str, operation: Operation) -> Entry:
        """Return who serves ``name``.

        Raises:
            NoSuchModel: nobody; the message names what is close.
            BadRequest: everyone who serves it says that it cannot do ``operation``; the message says who could.
        """
        entry = self.find(name or self._only(operation))
        if entry.capabilities and operation.capability not in entry.capabilities:
            raise BadRequest(self._incapable(entry, operation), param="model", code="model_not_capable")
        return entry.able(operation)

    def find(self, name: str) -> Entry:
        """Return the entry of ``name``, whatever it can do; raise :class:`NoSuchModel`."""
        entry = self.entries.get(name) or self._qualified(name)
        if entry is None:
            raise NoSuchModel(self._unknown(name), param="model")
        return entry

    def _only(self, operation: Operation) -> str:
        """Return what serves callers that name no model (TEI's cannot): a route called so, or the one model able to."""
        wanted = operation.capability
        route = self.entries.get(operation.value)
        if route is not None and route.is_route:
            return route.name
        able = sorted(name for name, entry in self.entries.items() if wanted in entry.capabilities)
        if len(able) == 1:
            return able[0]
        who = f"These can do {wanted}: {', '.join(able[:10])}." if able else f"No model here is known to do {wanted}."
        raise BadRequest(f"Missing required parameter: 'model'. {who}", param="model")

    def _qualified(self, name: str) -> Entry | None:
        """Resolve ``server/model``."""
        server, slash, model = name.partition("/")
        member = self.members.get(server)
        if not slash or member is None:
            return None
        if member.models_known and all(model != listed.id for listed in member.models):
            return None
        candidate = _candidate(member, model)
        return Entry(name, Plan(name, (candidate,)), candidate.capabilities)

    def _unknown(self, name: str) -> str:
        if len(name) > _LONGEST_NAME:  # comparing takes time with the square of it
            name = f"{name[:_LONGEST_NAME]}…"
        names = [*self.entries, *(f"{m.name}/{model.id}" for m in self.members.values() for model in m.models)]
        close = difflib.get_close_matches(name, names, n=3)
        if close:
            return f"The model {name!r} does not exist. Did you mean {' or '.join(map(repr, close))}?"
        if not self.entries:
            return f"The model {name!r} does not exist: no server offers any model now."
        listed = ", ".join(map(repr, sorted(self.entries)[:10]))
        return f"The model {name!r} does not exist. There are: {listed}{', …' if len(self.entries) > 10 else ''}."

    def _incapable(self, entry: Entry, operation: Operation) -> str:
        wanted = operation.capability
        able = [repr(name) for name, other in sorted(self.entries.items()) if wanted in other.capabilities]
        who = f"These can: {', '.join(able[:10])}." if able else "No model here can."
        able_to = ", ".join(sorted(entry.capabilities))
        return f"The model {entry.name!r} cannot do {wanted} (it can do: {able_to}). {who}"


def build_catalog(members: Mapping[str, Member], routes: Iterable[Route]) -> Catalog:
    """Build the catalog of what the enabled ``members`` serve and what the ``routes`` name."""
    enabled = {name: member for name, member in members.items() if member.server.enabled}
    entries = _bare_names(enabled.values())
    for route in routes:
        entries[route.name] = _route_entry(route, enabled)
    return Catalog(entries, enabled)


def _bare_names(members: Iterable[Member]) -> dict[str, Entry]:
    serving: dict[str, list[Candidate]] = {}
    for member in members:
        for model in member.models:
            serving.setdefault(model.id, []).append(Candidate(member, model.id, model.capabilities))
    return {
        name: Entry(name, Plan(name, tuple(candidates)), _capabilities(candidates))
        for name, candidates in serving.items()
    }


def _route_entry(route: Route, members: Mapping[str, Member]) -> Entry:
    primary, fallback = _candidates(route.to, members), _candidates(route.fallback, members)
    plan = Plan(route.name, primary, fallback)
    able = _capabilities(plan.candidates)
    by_embeddings = route.rank_by is not None
    if by_embeddings and Capability.EMBEDDINGS in able:
        able |= {Capability.RERANK}
    return Entry(
        route.name,
        plan,
        able,
        route.budgets,
        is_route=True,
        ranks_by_embeddings=by_embeddings,
        mcp_servers=route.mcp_servers,
    )


def _candidates(targets: Iterable[Target], members: Mapping[str, Member]) -> tuple[Candidate, ...]:
    return tuple(_candidate(members[t.server], t.model) for t in targets if t.server in members)


def _candidate(member: Member, model: str) -> Candidate:
    listed = next((m for m in member.models if m.id == model), Model(model))
    return Candidate(member, model, listed.capabilities)


def _capabilities(candidates: Iterable[Candidate]) -> frozenset[Capability]:
    """Join what the servers say of the model; one that says nothing may be able to do anything."""
    joined: set[Capability] = set()
    for candidate in candidates:
        if not candidate.capabilities:
            return frozenset()
        joined |= candidate.capabilities
    return frozenset(joined)
