"""What trillm says about itself: the model list, readiness, and the whole state for its own command line."""

import time
from collections.abc import Collection
from typing import Any

from trillm import __version__
from trillm.gateway.access import require_model
from trillm.gateway.gateway import Gateway
from trillm.keys import EVERYTHING, Grants
from trillm.pool.catalog import Catalog, Entry
from trillm.pool.latency import percentile
from trillm.pool.member import Member, State
from trillm.pool.pool import Pool
from trillm.registry.registry import Registry

#: `created` is required by OpenAI's schema, and no server tells it: the start of this process stands for it.
_STARTED = int(time.time())


def model_list(pool: Pool, grants: Grants = EVERYTHING) -> dict[str, Any]:
    """Return OpenAI's list of models: every public name that a server answers for now and that may be used."""
    entries = pool.catalog.entries.values()
    shown = (entry for entry in entries if entry.available and grants.allow_model(entry.name))
    return {"object": "list", "data": [_model_object(entry) for entry in shown]}


def model(pool: Pool, name: str, grants: Grants = EVERYTHING) -> dict[str, Any]:
    """Return one model. ``server/model`` is found too.

    Raises:
        NoSuchModel: there is none.
        ModelNotAllowed: it may not be used.
    """
    entry = pool.catalog.find(name)
    require_model(grants, entry.name)
    return _model_object(entry)


def _model_object(entry: Entry) -> dict[str, Any]:
    servers = sorted({candidate.member.name for candidate in entry.plan.candidates})
    described: dict[str, Any] = {
        "id": entry.name,
        "object": "model",
        "created": _STARTED,
        "owned_by": ", ".join(servers) or "trillm",
        "capabilities": sorted(entry.capabilities),
    }
    length = entry.context_length
    return described if length is None else described | {"max_model_len": length}


def readiness(gateway: Gateway, registry: Registry, *, detailed: bool) -> dict[str, Any]:
    """Return whether requests can be answered, and if not why; a broken registry is told but is no reason.

    Args:
        gateway: answers them.
        registry: may be broken.
        detailed: whether the caller may read what names files of this machine.
    """
    error = registry.snapshot.error
    pool = gateway.pool
    up = [m.name for m in pool.members.values() if m.state(pool.now()) in (State.UP, State.BUSY)]
    return {
        "ready": bool(up) and not gateway.stopping,
        "stopping": gateway.stopping,
        "servers_up": len(up),
        "servers": len(pool.members),
        "registry_error": error if detailed or error is None else "broken; the log says how",
    }


def full(gateway: Gateway, registry: Registry) -> dict[str, Any]:
    """Return everything the command line shows of a running trillm. Holds no secret."""
    pool = gateway.pool
    return {
        "version": __version__,
        "ready": readiness(gateway, registry, detailed=False)["ready"],
        "error": registry.snapshot.error,
        "running": gateway.running,
        "servers": [_server(member, pool.now()) for member in pool.members.values()],
        "models": _models_and_servers(pool.catalog),
    }


def _models_and_servers(catalog: Catalog) -> list[dict[str, Any]]:
    return [
        {
            "id": entry.name,
            "servers": [candidate.member.name for candidate in entry.plan.candidates],
            "capabilities": sorted(entry.capabilities),
            "context_length": entry.context_length,
            "route": entry.is_route,
        }
        for entry in catalog.entries.values()
    ]


def _server(member: Member, now: float) -> dict[str, Any]:
    return {
        "name": member.name,
        "url": member.server.url,
        "kind": member.kind,
        "version": member.found.version if member.found else None,
        "state": member.state(now).value,
        "source": member.source.value,
        "models": [
            {"id": m.id, "capabilities": sorted(m.capabilities), "context_length": m.context_length}
            for m in member.models
        ],
        "in_flight": member.in_flight,
        "limit": member.limit,
        "waiting": member.waiting,
        "elsewhere": member.elsewhere,
        **first_token(member.first_token.values),
        "last_error": member.last_error,
    }


def first_token(values_s: Collection[float]) -> dict[str, float | None]:
    """Return what is shown of times to the first token, in seconds."""
    return {
        "first_token_p50_ms": _ms(percentile(values_s, 0.50)),
        "first_token_p95_ms": _ms(percentile(values_s, 0.95)),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
