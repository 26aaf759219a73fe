"""What an operator is shown of the servers behind: a log line when one goes up or down, gauges of what is under way."""

import logging
from collections.abc import Callable

from trillm.gateway.gateway import Gateway
from trillm.hub import Hub
from trillm.metrics import Metrics
from trillm.pool.events import BackendStateChanged
from trillm.pool.member import Member, State

log = logging.getLogger(__name__)


def observe(hub: Hub, metrics: Metrics, gateway: Gateway) -> None:
    """Log what ``hub`` tells of servers, and show in ``metrics`` what ``gateway`` is doing."""
    hub.subscribe(log_state_change, BackendStateChanged)
    add_gauges(metrics, gateway)


def log_state_change(event: BackendStateChanged) -> None:
    """Log that a server went up or down."""
    level = logging.WARNING if event.after is State.DOWN else logging.INFO
    fields = {"server": event.server, "before": event.before, "after": event.after, "reason": event.reason}
    log.log(level, "server state", extra={"fields": fields})


def add_gauges(metrics: Metrics, gateway: Gateway) -> None:
    """Show what is under way now, as a whole and by server."""
    pool = gateway.pool

    def per_server(read: Callable[[Member], float]) -> Callable[[], dict[str, float]]:
        return lambda: {name: read(member) for name, member in pool.members.items()}

    def is_up(member: Member) -> float:
        return member.state(pool.now()) in (State.UP, State.BUSY)

    metrics.gauge("trillm_running", "Requests under way.", lambda: gateway.running)
    metrics.gauge_per_server("trillm_server_up", "Whether a server is up.", per_server(is_up))
    metrics.gauge_per_server("trillm_server_in_flight", "Slots taken.", per_server(lambda m: m.in_flight))
    metrics.gauge_per_server("trillm_server_waiting", "Requests waiting.", per_server(lambda m: m.waiting))
