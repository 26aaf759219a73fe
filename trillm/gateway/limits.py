"""Which latency budget a call has. The nearest setting wins: the caller's header, the route, the server, the operation.

A caller may ask for more or less than is configured, up to the ceiling. ``x-stainless-read-timeout`` is not an order:
every OpenAI client sends one, 600 s by default.
"""

from attrs import frozen

from trillm.budget import Budget
from trillm.gateway.call import Call
from trillm.models import Operation
from trillm.pool.catalog import Entry
from trillm.registry.document import Budgets, Server


@frozen
class Limits:
    """Seconds, all set: the defaults under whatever the registry and the command line say.

    Args:
        chat: until the whole answer, or the first content of a stream; completions too.
        embeddings: until the whole answer.
        rerank: until the whole answer.
        stall: between two pieces of a stream; None is as long as the first content may take.
        total: a whole stream; None is no limit.
        ceiling: the most a caller may ask for.
    """

    chat: float = 5.0
    embeddings: float = 2.0
    rerank: float = 3.0
    stall: float | None = None
    total: float | None = None
    ceiling: float = 600.0

    def for_operation(self, operation: Operation) -> float:
        """Return the seconds of ``operation``."""
        seconds: float = getattr(self, operation.budget_name)
        return seconds


def limits_of(*sections: Budgets) -> Limits:
    """Return the limits that the ``sections`` make together; the first that sets a value wins."""
    defaults = Limits()
    values = {}
    for name in ("chat", "embeddings", "rerank", "stall", "total", "ceiling"):
        given = (getattr(section, name) for section in sections)
        values[name] = next((value for value in given if value is not None), getattr(defaults, name))
    return Limits(**values)


def open_budget(call: Call, entry: Entry, limits: Limits) -> Budget:
    """Return the budget of ``call``, started at its arrival, generous enough for every server it may go to."""
    limit_s = max((_limit_s(call, entry, budgets, limits) for budgets in entry.server_budgets), default=limits.chat)
    return Budget(limit_s, stall_s=limit_s, started=call.received)


def narrow(budget: Budget, call: Call, entry: Entry, server: Server, limits: Limits) -> None:
    """Let ``budget`` be what applies when it is ``server`` that answers ``call``."""
    if len(entry.server_budgets) == 1 and not call.stream:
        return  # it is that already, and a whole answer knows no stall
    limit_s = _limit_s(call, entry, server.budgets, limits)
    budget.stall_s = entry.budgets.stall or server.budgets.stall or limits.stall or limit_s
    if call.stream:
        budget.total_s = entry.budgets.total or server.budgets.total or limits.total
    budget.shrink(limit_s if budget.total_s is None else min(limit_s, budget.total_s))


def _limit_s(call: Call, entry: Entry, server: Budgets, limits: Limits) -> float:
    """Return the seconds from arrival until the whole answer, or the first content of a stream."""
    if call.budget_s is not None:
        return min(call.budget_s, entry.budgets.ceiling or server.ceiling or limits.ceiling)
    return (
        entry.budgets.for_operation(call.operation)
        or server.for_operation(call.operation)
        or limits.for_operation(call.operation)
    )
