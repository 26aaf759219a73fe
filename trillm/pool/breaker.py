"""The circuit breaker of one backend: a pure state machine over outcomes, without a clock of its own.

Closed: everything passes. Open: nothing does, for a pause that doubles. Half-open: one request at a time is let through
as a probe; its success closes the breaker, its failure opens it again (Nygard, *Release It!*, 2nd ed., ch. 5).
"""

import enum
import math

from attrs import define, field


class BreakerState(enum.StrEnum):
    """What the breaker does with the next request."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Probe:
    """The request that a half-open breaker let through."""


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
    _open_until: float | None = field(default=None, init=False)
    _probe: Probe | None = field(default=None, init=False)

    def state(self, now: float) -> BreakerState:
        """Return the state at ``now``."""
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def admits(self, now: float) -> bool:
        """Tell whether a request may be sent at ``now``."""
        if self._open_until is None:
            return True
        return self.state(now) is BreakerState.HALF_OPEN and self._probe is None

    def sent(self, now: float) -> Probe | None:
        """A request was sent. Should it be the half-open state's probe, its outcome is to be told with what returns."""
        if self._open_until is None or self.state(now) is not BreakerState.HALF_OPEN:
            return None
        self._probe = Probe()
        return self._probe

    def answering(self, probe: Probe | None) -> None:
        """A request's first content is there. Of the probe that is proof enough: its stream may take minutes.

        The failures stay counted until an answer is good to its end: one more and it is open again, for longer.
        """
        if self._ended(probe):
            self._open_until = None

    @property
    def untroubled(self) -> bool:
        """Whether nothing failed since the last success."""
        return not self._failures and self._open_until is None

    def succeeded(self) -> None:
        """A request was answered well: close."""
        self._failures = self._openings = 0
        self._open_until = self._probe = None

    def failed(self, now: float, probe: Probe | None = None) -> None:
        """A request failed by the backend's fault.

        One that was sent before the breaker opened, and fails while it is open, tells nothing new.
        """
        self._ended(probe)
        if self.state(now) is BreakerState.OPEN:
            return
        self._failures += 1
        if self._failures >= self.threshold:
            pause_s = min(math.ldexp(self.first_pause_s, self._openings), self.longest_pause_s)
            self._openings = min(self._openings + 1, 64)  # doubled for hours it would be no number any more
            self._open_until = now + pause_s

    def undecided(self, probe: Probe | None) -> None:
        """A request ended without telling anything, e.g. the client left: if it was the probe, let another one be."""
        self._ended(probe)

    def _ended(self, probe: Probe | None) -> bool:
        """Forget the probe if this is it; return whether it was."""
        if probe is None or probe is not self._probe:
            return False
        self._probe = None
        return True
