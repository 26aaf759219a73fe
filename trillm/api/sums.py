"""What several processes that are one trillm say of themselves together: ``/trillm/status`` and ``/metrics``."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from trillm.gateway.gateway import Gateway
from trillm.gateway.status import first_token, full
from trillm.pool.member import State
from trillm.registry.registry import Registry

#: The name of the status, when a part of it is asked for.
STATUS = "status"

#: Of each process so many of its newest times to the first token make the percentiles.
NEWEST = 128

#: Asks all processes for their part of what is named, given this one's; returns theirs and ours.
Gather = Callable[[str, bytes], Awaitable[Sequence[bytes]]]

#: What one process can tell that another one cannot, the most telling first.
_STATES = (State.DISABLED, State.BUSY, State.UP, State.STARTING, State.DOWN)


def part(gateway: Gateway, registry: Registry) -> bytes:
    """Return one process's part of the status: its own, and the times that percentiles are made of."""
    times = {name: member.first_token.values[-NEWEST:] for name, member in gateway.pool.members.items()}
    return msgspec.msgpack.encode((full(gateway, registry), times))


def summed(parts: Iterable[bytes]) -> dict[str, Any]:
    """Return the status of all; what is not a matter of each process is as the first part has it."""
    decoded = [msgspec.msgpack.decode(each) for each in parts]
    statuses: list[dict[str, Any]] = [status for status, _ in decoded]
    servers: dict[str, list[dict[str, Any]]] = {}
    for status in statuses:
        for server in status["servers"]:
            servers.setdefault(server["name"], []).append(server)
    return statuses[0] | {
        "ready": any(status["ready"] for status in statuses),
        "running": sum(status["running"] for status in statuses),
        "workers": len(statuses),
        "servers": [
            _server(views, [s for _, times in decoded for s in times.get(name, ())]) for name, views in servers.items()
        ],
    }


def _server(views: list[dict[str, Any]], first_tokens_s: list[float]) -> dict[str, Any]:
    """Join what each process says of one server."""
    in_flight = sum(view["in_flight"] for view in views)
    state = min((State(view["state"]) for view in views), key=_STATES.index)
    if state is State.UP and views[0]["limit"] is not None and in_flight >= views[0]["limit"]:
        state = State.BUSY
    return views[0] | {
        "state": state.value,
        "in_flight": in_flight,
        "waiting": sum(view["waiting"] for view in views),
        # To each process the requests of the others are somebody else's.
        "elsewhere": max(0, max(view["in_flight"] + view["elsewhere"] for view in views) - in_flight),
        **first_token(first_tokens_s),
        "last_error": next((view["last_error"] for view in views if view["last_error"]), None),
    }
