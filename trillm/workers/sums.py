"""The parent's part in sums over all workers: asks for the parts, and remembers what must not be forgotten."""

import logging
from collections.abc import Mapping

import trio
from attrs import define, field

from trillm.workers import totals
from trillm.workers.channel import Channel
from trillm.workers.messages import MAX_MESSAGE_BYTES, Ask, Sum, Tell, Told

log = logging.getLogger(__name__)

#: How long a sum waits for the parts of workers that are busy.
GATHER_S = 0.3


@define(eq=False)
class _Gathering:
    """One sum that is being asked for."""

    what: str
    missing: set[int]
    parts: dict[int, bytes] = field(factory=dict)
    complete: trio.Event = field(factory=trio.Event)

    def without(self, number: int) -> None:
        self.missing.discard(number)
        if not self.missing:
            self.complete.set()


@define(eq=False)
class Sums:
    """See the module's docstring."""

    #: What is known of what each worker has counted, and what all that are gone had.
    _counted: dict[int, bytes] = field(factory=dict, init=False)
    _past: bytes = field(default=totals.NOTHING, init=False)
    _gatherings: dict[int, _Gathering] = field(factory=dict, init=False)

    async def gather(self, asker: int, ask: Ask, others: Mapping[int, Channel]) -> Sum:
        """Return everybody's parts for a worker that asks; ``others`` are the lines to those that can answer."""
        self.counted(asker, ask.what, ask.own)
        gathering = _Gathering(ask.what, set(others))
        question = max(self._gatherings, default=0) + 1
        self._gatherings[question] = gathering
        try:
            for channel in others.values():
                channel.tell(Tell(question, ask.what))
            with trio.move_on_after(GATHER_S if others else 0):
                await gathering.complete.wait()
        finally:
            del self._gatherings[question]
        parts = [ask.own, *gathering.parts.values()]
        if ask.what == totals.METRICS:
            # Who does not answer has at least counted what it had.
            parts = [self._past, *self._counted.values()]
        if sum(map(len, parts)) > MAX_MESSAGE_BYTES // 2:
            log.warning("sum too large what=%s bytes=%d", ask.what, sum(map(len, parts)))
            parts = [ask.own]
        return Sum(ask.question, parts)

    def told(self, number: int, told: Told) -> None:
        """Take in a worker's part."""
        gathering = self._gatherings.get(told.question)
        if gathering is not None:
            self.counted(number, gathering.what, told.part)
            gathering.parts[number] = told.part
            gathering.without(number)

    def counted(self, number: int, what: str, part: bytes) -> None:
        """Remember what a worker has counted: should it die, nobody else knows."""
        if what == totals.METRICS:
            self._counted[number] = part

    def left(self, number: int) -> None:
        """Keep what a worker that is dead has counted, and wait for it no more."""
        self._past = totals.past([self._past, self._counted.pop(number, totals.NOTHING)])
        for gathering in self._gatherings.values():
            gathering.without(number)
