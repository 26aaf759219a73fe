"""One backend server as the pool sees it: its settings, what a probe found, its slots and how it has been doing.

State only; decisions are in :mod:`trillm.pool.choose`, waiting in :mod:`trillm.pool.pool`.
"""

import enum
import math

from attrs import define, field

from trillm.backends import KINDS
from trillm.backends.base import Backend
from trillm.models import Found, Model, Operation
from trillm.pool.breaker import Breaker
from trillm.pool.fullness import Fullness
from trillm.pool.latency import Window
from trillm.registry.document import Server


class Source(enum.StrEnum):
    """How a server came to be here."""

    REGISTRY = "registry"
    DISCOVERED = "discovered"
    BUILTIN = "builtin"


class State(enum.StrEnum):
    """What an operator is shown."""

    STARTING = "starting"  # not probed yet
    UP = "up"
    BUSY = "busy"  # up, and every slot taken
    DOWN = "down"  # the last probe, or several requests in a row, failed
    DISABLED = "disabled"


@define(eq=False)
class Member:
    """See the module's docstring.

    Args:
        server: its settings, replaced when the registry changes.
        source: how it came to be here.
        removed: whether it is served no longer; who has a slot of it may finish.
        share: how many of its slots are this process's; None: all, there is no other process.
        waiting_elsewhere: requests that wait for it in other processes, as far as is known.
    """

    server: Server
    source: Source = Source.REGISTRY
    removed: bool = False
    found: Found | None = None
    reachable: bool | None = None
    last_error: str | None = None
    #: When a request was last answered well, or a stream began to be, on the pool's clock.
    answered: float = -math.inf
    in_flight: int = 0
    #: Requests that the server has from others than this process, as far as it told at its last probe.
    elsewhere: int = 0
    waiting: int = 0
    share: int | None = None
    waiting_elsewhere: int = 0
    breaker: Breaker = field(factory=Breaker)
    #: None: it is full for nothing.
    full: Fullness | None = None
    first_token: Window = field(factory=Window)
    service: Window = field(factory=Window)

    @property
    def name(self) -> str:
        """The server's name."""
        return self.server.name

    @property
    def backend(self) -> Backend:
        """How this kind of server differs; the generic one until its kind is known."""
        return KINDS.get(self.kind or "") or KINDS["openai"]

    @property
    def kind(self) -> str | None:
        """What kind it is said to be, or was found to be; None while nobody knows."""
        return self.server.kind or (self.found.kind if self.found else None)

    @property
    def limit(self) -> int | None:
        """How many requests it is sent at once: as the registry says, else its own number of slots, else no limit."""
        return self.server.max_concurrent or (self.found.slots if self.found else None)

    @property
    def max_batch(self) -> int | None:
        """How many inputs or documents one request to it may have: as for :attr:`limit`."""
        return self.server.max_batch or (self.found.max_batch if self.found else None)

    @property
    def has_slot(self) -> bool:
        """Whether one more request fits now."""
        limit = self.limit
        if self.share is None:
            return limit is None or self.in_flight < limit
        if limit is None:
            return self.found is not None  # others may know already how many slots it has
        return self.in_flight < min(limit, self.share)

    @property
    def key(self) -> str:
        """What it is known by in every process."""
        return f"{self.server.name} {self.server.url}"

    @property
    def models(self) -> tuple[Model, ...]:
        """What it serves: what the registry says, with what the probe knows of it; else all the probe found."""
        found = self.found.models if self.found else ()
        if not self.server.models:
            return found
        known = {model.id: model for model in found}
        return tuple(known.get(name, Model(name)) for name in self.server.models)

    @property
    def models_known(self) -> bool:
        """Whether :attr:`models` can be relied on to be everything it serves."""
        return bool(self.server.models) or self.found is not None

    def speaks(self, operation: Operation) -> bool:
        """Tell whether it was found to know an operation that not every server knows."""
        return self.found is not None and operation in self.found.speaks

    def usable(self, now: float) -> bool:
        """Tell whether a request may be sent to it at all at ``now``, slots aside."""
        return self.reachable is not False and not self.removed and self.server.enabled and self.breaker.admits(now)

    @property
    def complaint(self) -> str:
        """Why it cannot be used, when it cannot."""
        if self.removed or not self.server.enabled:
            return "removed" if self.removed else "disabled"
        return self.last_error or "failing"

    def state(self, now: float) -> State:
        """Return what to show an operator."""
        if not self.server.enabled:
            return State.DISABLED
        if self.reachable is False or not self.breaker.admits(now):
            return State.DOWN
        if self.reachable is None:
            return State.STARTING
        return State.UP if self.limit is None or self.in_flight < self.limit else State.BUSY
