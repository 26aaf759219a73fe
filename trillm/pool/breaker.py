"""The circuit breaker of one backend: a pure state machine over outcomes, without a clock of its own.

Closed: everything passes. Open: nothing does, for a pause that doubles. Half-open: one request at a time is let through
as a probe; its success closes the breaker, its failure opens it again (Nygard, *Release It!*, 2nd ed., ch. 5).
"""

import enum

from attrs import define, field


class BreakerState(enum.StrEnum):
    """What the breaker does with the next request."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@define
class Breaker:
    """See the module's docstring. All times are seconds on one monotonic clock.

    Args:
        threshold: failures in a row that open it.
        first_pause_s: how long it stays open the first time.
        longest_pause_s: the most the pause grows to.
    """

    threshold: int = 3
    first_pause_s: float = 1.0
    longest_pause_s: float = 15.0
    _failures: int = field(default=0, init=False)
    _openings: int = field(default=0, init=False)
    _open_until: float = field(default=0.0, init=False)
    _probing: bool = field(default=False, init=False)

    def state(self, now: float) -> BreakerState:
        """Return the state at ``now``."""
        if self._openings == 0:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def admits(self, now: float) -> bool:
        """Tell whether a request may be sent at ``now``."""
        state = self.state(now)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self._probing)

    def sent(self, now: float) -> None:
        """A request was sent. In the half-open state it is the probe."""
        self._probing = self.state(now) is BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """A request was answered: close."""
        self._failures = 0
        self._openings = 0
        self._probing = False

    def failed(self, now: float) -> None:
        """A request failed by the backend's fault."""
        self._failures += 1
        self._probing = False
        if self._failures >= self.threshold or self._openings:
            self._openings += 1
            pause_s = min(self.first_pause_s * 2 ** (self._openings - 1), self.longest_pause_s)
            self._open_until = now + pause_s

    def undecided(self) -> None:
        """A request ended without telling anything, e.g. the client left: let another one probe."""
        self._probing = False

    def retry_after_s(self, now: float) -> float:
        """Seconds until a request may be sent again."""
        return max(0.0, self._open_until - now)
