"""Whether a failed attempt is worth another: a pure decision, and the retry budget that stops storms.

The budget is a token bucket fed by traffic (Finagle's retry budget, gRFC A6): each request adds a fifth of a retry.
"""

import random

import trio
from attrs import define, field

from trillm.backends.failures import REJECTED_KEY
from trillm.budget import Budget
from trillm.errors import UpstreamBusy, UpstreamFailed
from trillm.pool.choose import Plan
from trillm.pool.member import Member

MAX_ATTEMPTS = 4


@define
class RetryTokens:
    """How many retries the recent traffic allows.

    Args:
        ratio: retries per request in the long run.
        reserve: retries that may be saved up; the bucket starts full, so that little traffic can retry too.
    """

    ratio: float = 0.2
    reserve: float = 20.0
    _tokens: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.reserve

    def earn(self) -> None:
        """A request came in."""
        self._tokens = min(self.reserve, self._tokens + self.ratio)

    def spend(self) -> bool:
        """Take a retry out; False when there is none."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@define
class Attempts:
    """The failed attempts of one request, and where it goes next."""

    plan: Plan
    tokens: RetryTokens
    tried: list[Member] = field(factory=list)
    count: int = 0

    def next_pause_s(self, member: Member, error: UpstreamFailed, budget: Budget) -> float:
        """Note a failure of ``member``; return the seconds to wait before the next attempt.

        Raises:
            UpstreamFailed: ``error`` itself, when another attempt is of no use or not allowed.
        """
        self.count += 1
        self.tried.append(member)
        pause_s = 0.0
        if not self._someone_else():
            # The only server gets a second chance, after a breath, unless it would say the same again.
            pause_s = _pause_s(error)
            self.tried.clear()
            if self.count >= 2 or error.code == REJECTED_KEY:
                raise error
        if self.count >= MAX_ATTEMPTS or pause_s >= budget.left_s() or not self.tokens.spend():
            raise error
        return pause_s

    def _someone_else(self) -> bool:
        now = trio.current_time()
        return any(c.member not in self.tried and c.ready(now) for c in self.plan.candidates)


def _pause_s(error: UpstreamFailed) -> float:
    if isinstance(error, UpstreamBusy) and error.retry_after_s is not None:
        return error.retry_after_s
    return random.uniform(0.05, 0.15)  # noqa: S311 - jitter, no secret
