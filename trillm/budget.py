"""One latency budget per request: a single cancel scope whose deadline and whose cause of death are kept together.

Everything a request does happens inside its budget's scope. The scope can end in three ways that the request's owner
must tell apart: the deadline passed (:class:`~trillm.errors.BudgetSpent`, naming the phase that spent it), somebody
cut it on purpose (shutdown, an administrator), or an outer scope was cancelled (the client left). Phases only name what
the time goes into; children can shrink a budget, never extend it.
"""

import enum
import math
from types import TracebackType
from typing import Self

import trio
from attrs import define, field

from trillm.errors import BudgetSpent, TrillmError


class Phase(enum.StrEnum):
    """What a request is waiting for."""

    QUEUE = "queue"
    CONNECT = "connect"
    FIRST_TOKEN = "first_token"  # noqa: S105 - no password
    TOOLS = "tools"
    STALL = "stall"
    TOTAL = "total"


@define(eq=False)
class Budget:
    """The time one request may take.

    Args:
        limit_s: seconds from ``started`` until the answer, or the first content of a stream, must be there.
        stall_s: seconds that may pass between two pieces of a stream once it flows.
        total_s: seconds from ``started`` for a whole stream; None is no limit.
        started: ``trio.current_time()`` when the request arrived.
    """

    limit_s: float
    stall_s: float
    total_s: float | None = None
    started: float = field(factory=trio.current_time)
    phase: Phase = Phase.QUEUE
    _scope: trio.CancelScope = field(init=False, repr=False)
    _cause: TrillmError | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        # Given here, because each change of a deadline costs as much as the whole scope.
        self._scope = trio.CancelScope(deadline=self._first_deadline())

    def spend(self) -> Self:
        """Run the body of a ``with`` inside the budget. Entered once.

        Raises:
            BudgetSpent: the deadline passed while the body was waiting.
            TrillmError: whatever :meth:`cut` was called with.
        """
        return self

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> bool:
        swallow = self._scope.__exit__(kind, exc, tb)
        if self._scope.cancelled_caught:
            raise self._cause or BudgetSpent(self.phase, self._spent_limit())
        return bool(swallow)

    def cut(self, cause: TrillmError) -> None:
        """End the request now, for ``cause``. The first cause wins, a deadline that has passed among them."""
        if not self._scope.cancel_called:
            self._cause = cause
            self._scope.cancel()

    def shrink(self, limit_s: float) -> None:
        """Set the limit that applies from here on, e.g. the chosen server's own; never beyond what it was."""
        if limit_s < self.limit_s:
            self.limit_s = limit_s
            self._scope.deadline = self._first_deadline()

    def left_s(self) -> float:
        """Seconds until the deadline; negative when it has passed."""
        return self._scope.deadline - trio.current_time()

    def flow(self) -> None:
        """Content is flowing: from now on the stall limit counts, anew with every call."""
        stalled, end = trio.current_time() + self.stall_s, self._end()
        self.phase = Phase.STALL if stalled <= end else Phase.TOTAL
        self._scope.deadline = min(stalled, end)

    def hold(self) -> None:
        """Stop the clock while the time is the caller's own, until :meth:`flow`; ``total_s`` still counts."""
        self.phase = Phase.TOTAL
        self._scope.deadline = self._end()

    def _first_deadline(self) -> float:
        return min(self.started + self.limit_s, self._end())

    def _end(self) -> float:
        return math.inf if self.total_s is None else self.started + self.total_s

    def _spent_limit(self) -> float:
        if self.phase is Phase.STALL:
            return self.stall_s
        return round(self._scope.deadline - self.started, 6)  # 5.0, not the 4.999999999998 that the clock makes of it
