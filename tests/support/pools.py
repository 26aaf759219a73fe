"""Pools of servers that nobody has to run."""

from collections.abc import Iterable
from typing import Any

from trillm.models import Capability, Found, Model
from trillm.pool.member import Member, Source
from trillm.pool.pool import Pool
from trillm.registry.document import Route, Server, Target


def a_server(name: str, **settings: Any) -> Server:
    """A server as an operator would register it."""
    return Server(**{"name": name, "url": f"http://{name}.example:8000", "kind": "openai"} | settings)


def found(*models: str | Model, slots: int | None = None, can: Iterable[Capability] = ()) -> Found:
    """What a probe finds where these models are."""
    offered = (m if isinstance(m, Model) else Model(m, frozenset(can)) for m in models)
    return Found("openai", models=tuple(offered), slots=slots)


def a_route(name: str, *to: str, fallback: Iterable[str] = (), **settings: Any) -> Route:
    """A route to ``server/model`` targets."""
    return Route(name, tuple(map(Target.parse, to)), tuple(map(Target.parse, fallback)), **settings)


def a_pool(*servers: Server, routes: Iterable[Route] = (), **settings: Any) -> tuple[Pool, list[object]]:
    """A pool of these servers, none probed yet, and the events it publishes."""
    events: list[object] = []
    pool = Pool(events.append, **settings)
    reconfigure(pool, *servers, routes=routes)
    return pool, events


def reconfigure(pool: Pool, *servers: Server, routes: Iterable[Route] = ()) -> None:
    """Let the pool serve exactly these."""
    pool.configure([(server, Source.REGISTRY) for server in servers], {route.name: route for route in routes})


def in_use(pool: Pool, *others: Member) -> dict[str, tuple[int, int]]:
    """Slots taken and requests waiting, by server, where there are any."""
    members = {**pool.members, **{f"{member.name} (before)": member for member in others}}
    if not any(member.waiting for member in members.values()):
        assert not pool.slots._waiters
        assert not pool.slots._wishes
    return {name: (m.in_flight, m.waiting) for name, m in members.items() if m.in_flight or m.waiting}
