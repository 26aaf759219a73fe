"""A worker's share of one server's slots: what to keep and what to give back, pure decisions.

The other side of :mod:`trillm.workers.ledger`.
"""

import math
from collections import deque
from typing import Protocol

from attrs import define, field
from msgspec.structs import replace

from trillm.workers.messages import Share, Use


class Limited(Protocol):
    """A server that may have so many requests at once.

    Args:
        share: how many of them may be this process's; ours to write.
        waiting_elsewhere: requests that wait for it in other processes; ours to write.
        in_flight: how many it has of this process.
        waiting: how many wait here.
        removed: whether it is served no longer.
    """

    share: int | None
    waiting_elsewhere: int
    in_flight: int
    waiting: int
    removed: bool

    @property
    def key(self) -> str:
        """What every process knows it by."""

    @property
    def limit(self) -> int | None:
        """How many it may have at once; None: as many as there are."""

    def usable(self, now: float) -> bool:
        """Tell whether a request may be sent to it now, slots aside."""


@define(eq=False)
class Portion:
    """See the module's docstring.

    Args:
        number: tells it from earlier ones of the same server.
        member: whose slots; its ``share`` is what is held.
        keep_s: see :class:`~trillm.workers.messages.Share`.
    """

    number: int
    member: Limited
    keep_s: float = math.inf
    _granted: int = 0
    _returned: int = 0
    #: When each slot that is held was granted, the oldest first. Which is which does not matter.
    _since: deque[float] = field(factory=deque, init=False)
    #: What the parent was told last.
    _told: Use | None = field(default=None, init=False)

    @property
    def quiet(self) -> bool:
        """Whether the parent need not hear of what changes now: nobody waits, here or elsewhere."""
        told = self._told
        return (
            self.keep_s == math.inf
            and not self.member.waiting
            and told is not None
            and told.claimed == self._granted
            and not self.member.removed
        )

    def received(self, share: Share, now: float) -> None:
        """Take in what the parent granted."""
        more = share.granted - self._granted
        self._granted, self.keep_s = share.granted, share.keep_s
        self._since.extend([now] * more)
        self.member.share = len(self._since)
        self.member.waiting_elsewhere = max(0, share.waiting - self.member.waiting)

    def end_slices(self, now: float) -> None:
        """Give back what is idle and has been here for long, before anybody who waits here gets it."""
        while self._idle > 0 and self._since[0] + self.keep_s <= now:
            self._give_back()

    def news(self, now: float) -> Use | None:
        """Give back what is of no use here, when everybody here has been served; return what the parent is to know."""
        gone = self.member.removed or self.member.limit is None
        while self._idle > 0 and (gone or self.keep_s < math.inf):
            self._give_back()
        wanted = 0 if gone or not self.member.usable(now) else max(0, self.member.waiting - max(0, self._idle))
        limit = None if gone else self.member.limit
        use = Use(self.member.key, self.number, limit, self._granted + wanted, self._returned)
        if use == self._told or (wanted and self._says_only_less(use)):
            return None
        self._told = use
        return use

    def _says_only_less(self, use: Use) -> bool:
        """Tell whether the only news is that somebody waits no more: that can be said with the next slot's return."""
        told = self._told
        return told is not None and use.claimed < told.claimed and use == replace(told, claimed=use.claimed)

    @property
    def over(self) -> bool:
        """Whether the parent was told that there is no such server here, and nothing is held of it."""
        return self._told is not None and self._told.limit is None and not self._since

    @property
    def _idle(self) -> int:
        return len(self._since) - self.member.in_flight

    def _give_back(self) -> None:
        self._since.popleft()
        self._returned += 1
        self.member.share = len(self._since)
