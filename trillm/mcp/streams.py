"""The streams of a Streamable HTTP session: each message is kept until its client has it, and a while longer.

A request's messages go to the stream of the POST it came by, all others to the one that a GET reads. A client that
lost its connection comes back with the id of the last event it saw.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

#: Messages kept of a stream. While a client reads, whoever sends waits for it; while none does, the oldest go.
KEPT = 256


@define(eq=False)
class Stream:
    """The messages of one stream.

    Args:
        home: those of its session.
        name: unique among these.
    """

    home: "Streams"
    name: str
    closed: bool = field(default=False, init=False)
    #: Who reads, or nobody. Who comes back takes over: the connection before may not have been noticed to be lost.
    reader: object = field(default=None, init=False)
    _kept: deque[tuple[int, bytes]] = field(factory=deque, init=False, repr=False)
    _last: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False, repr=False)

    async def put(self, message: bytes) -> None:
        """Add a message; wait when the client is far behind."""
        while self.reader and not self.closed and self._last - self._seen >= KEPT:
            await self._changed.wait()
        self._last += 1
        self._kept.append((self._last, message))
        if len(self._kept) > KEPT:
            self._kept.popleft()
        self._change()

    def close(self) -> None:
        """There will be no more messages."""
        self.closed = True
        self._change()

    @contextmanager
    def reading(self, after: int | None) -> Iterator[object]:
        """Be the one who reads, for the time of the block, or until another is; yield what to show :meth:`next`.

        Args:
            after: the number of the last message the client has; None is whatever was read before.
        """
        reader = self.reader = object()
        self._seen = self._seen if after is None else min(after, self._last)
        self._change()
        try:
            yield reader
        finally:
            if self.reader is reader:
                self.reader = None
                self._change()

    async def next(self, reader: object) -> tuple[str, bytes] | None:
        """Return the id and text of the next message; None is the end, at least for this reader."""
        while self.reader is reader:
            for number, message in self._kept:
                if number > self._seen:
                    self._seen = number
                    self._change()
                    return self.event_id(number), message
            if self.closed:
                return None
            await self._changed.wait()
        return None

    def the_answer(self) -> bytes | None:
        """Return the only message of a stream that is at its end, unread; None if there is more to it, or nothing."""
        if self.closed and not self._seen and len(self._kept) == 1:
            self._seen = self._last
            return self._kept[0][1]
        return None

    @property
    def empty(self) -> bool:
        """Whether there is no message yet."""
        return not self._kept

    async def begun(self) -> None:
        """Wait until there is a message, or there will be none."""
        while not self._kept and not self.closed:
            await self._changed.wait()

    def event_id(self, number: int | None = None) -> str:
        """Return the id of a message, or of what the client has seen up to now."""
        return f"{self.name}-{self._seen if number is None else number}"

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@define(eq=False)
class Streams:
    """Those of one session.

    Args:
        most: finished ones that are remembered.
    """

    most: int = 16
    alone: Stream = field(init=False)
    _named: dict[str, Stream] = field(factory=dict, init=False, repr=False)
    _count: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.alone = Stream(self, "0")

    def open(self) -> Stream:
        """Return a new one."""
        self._count += 1
        stream = self._named[str(self._count)] = Stream(self, str(self._count))
        self._forget()
        return stream

    def find(self, event_id: str) -> tuple[Stream, int] | None:
        """Return the stream an event was of, and its number there; None if it is forgotten."""
        name, _, number = event_id.partition("-")
        stream = self.alone if name == self.alone.name else self._named.get(name)
        return (stream, int(number)) if stream is not None and number.isascii() and number.isdigit() else None

    def close(self) -> None:
        """End them all."""
        for stream in (self.alone, *self._named.values()):
            stream.close()

    def _forget(self) -> None:
        finished = [name for name, stream in self._named.items() if stream.closed and not stream.reader]
        for name in finished[: max(0, len(finished) - self.most)]:
            del self._named[name]
