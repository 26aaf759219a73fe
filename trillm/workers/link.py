"""A worker's end of the line: its shares of the servers' slots, its part of every sum, and the word to stop.

A worker never outlives the line: what it may do depends on what others do, and it would not hear of that any more.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence

import trio
from attrs import define, field

from trillm.workers.channel import Channel
from trillm.workers.messages import Ask, Broken, Failed, Last, Moved, Ready, Share, Start, Stop, Sum, Tell, Told, Use
from trillm.workers.portion import Limited, Portion

log = logging.getLogger(__name__)

#: Longer than the parent takes to gather a sum, whoever does not answer it.
SUM_S = 2.0


class ParentGone(Exception):
    """The parent is dead, or does not make sense any more."""


@define(eq=False)
class Link:
    """See the module's docstring.

    Args:
        channel: the line.
        stop: called with whether to stop at once.
        now: the clock of slices.
        serve_waiters: called when there may be slots for who waits.
        moved: called with the builtin backend's new address.
        parts: what to answer when a part of a sum is asked for, by its name.
    """

    channel: Channel
    stop: Callable[[bool], None]
    now: Callable[[], float] = trio.current_time
    serve_waiters: Callable[[], None] = lambda: None
    moved: Callable[[str], None] = lambda _url: None
    parts: dict[str, Callable[[], bytes]] = field(factory=dict)
    _portions: dict[Limited, Portion] = field(factory=dict, init=False)
    _numbered: dict[int, Portion] = field(factory=dict, init=False)
    _changed: dict[Portion, None] = field(factory=dict, init=False)
    _numbers: "itertools.count[int]" = field(factory=itertools.count, init=False)
    _sums: dict[int, trio.MemorySendChannel[Sequence[bytes]]] = field(factory=dict, init=False)

    async def serve(self, *, task_status: trio.TaskStatus[Start] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and tell until the parent is gone; report how to start.

        Raises:
            ParentGone: it is.
        """
        self.channel.prepare = self._tell_uses
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.channel.serve_outbox)
                async for message in self.channel.messages():
                    if isinstance(message, Start):
                        task_status.started(message)
                    else:
                        self._heard(message)
                nursery.cancel_scope.cancel()
        except* Broken as broken:
            raise ParentGone(str(broken.exceptions[0])) from broken
        raise ParentGone("the parent is gone")

    def _heard(self, message: object) -> None:
        match message:
            case Share():
                self._received(message)
            case Tell():
                self.channel.tell(Told(message.question, self.parts[message.what]()))
            case Sum() if message.question in self._sums:
                self._sums.pop(message.question).send_nowait(message.parts)
            case Moved():
                self.moved(message.builtin_url)
            case Stop():
                self.stop(message.at_once)

    # ── what the parent is told ─────────────────────────────────────────────────────────────────────────────────

    def ready(self, banner: str) -> None:
        """Connections are accepted."""
        self.channel.tell(Ready(banner))

    async def last_words(self, message: Failed | Last) -> None:
        """Say what is to be known of a worker that ends."""
        self.channel.tell(message)
        await self.channel.flush()

    async def gather(self, what: str, own: bytes) -> Sequence[bytes]:
        """Return everybody's part of the sum ``what``, of which ``own`` is ours; of those who do not answer, none."""
        question = next(self._numbers)
        send, receive = trio.open_memory_channel[Sequence[bytes]](1)  # there is one answer
        self._sums[question] = send
        try:
            self.channel.tell(Ask(question, what, own))
            with trio.move_on_after(SUM_S):
                return await receive.receive()
        finally:
            self._sums.pop(question, None)
        return [own]

    # ── shares of slots: what the pool tells ────────────────────────────────────────────────────────────────────

    def members(self, members: Iterable[Limited]) -> None:
        """Take in that these are served, and how many slots they have."""
        for member in members:
            if member not in self._portions and member.limit is not None:
                portion = Portion(next(self._numbers), member)
                self._portions[member] = self._numbered[portion.number] = portion
        self._changed |= dict.fromkeys(self._portions.values())
        self.channel.wake()

    def changed(self, member: Limited) -> None:
        """Take in that a request began to wait, waits no more, or gave its slot back; before anybody else gets it."""
        portion = self._portions.get(member)
        if portion is not None and not portion.quiet:
            portion.end_slices(self.now())
            self._changed[portion] = None
            self.channel.wake()

    def _received(self, share: Share) -> None:
        portion = self._numbered.get(share.portion)
        if portion is None:  # it crossed the news that there is no such server here any more
            self._tell_use(Use(share.server, share.portion, None, share.granted, share.granted))
            return
        portion.received(share, self.now())
        self._changed[portion] = None
        self.serve_waiters()
        self.channel.wake()

    def _tell_uses(self) -> None:
        changed, self._changed = self._changed, {}
        for portion in changed:
            use = portion.news(self.now())
            if use is not None:
                self._tell_use(use)
            if portion.over:
                self._portions.pop(portion.member, None)
                self._numbered.pop(portion.number, None)

    def _tell_use(self, use: Use) -> None:
        self.channel.tell(use, about=use.portion)
