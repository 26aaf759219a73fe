"""Takes the time of answers: bytes and the moment they came in, counts and durations out. Nothing here awaits.

Every wake of a stream comes by here, so events are found by searching, not by decoding: JSON never holds a line break
or an unescaped quotation mark inside a text, so the patterns cannot be found in what a model says.
"""

import re
from array import array

from attrs import define, field

from trillm.bench.asks import Ask
from trillm.bench.tally import Tally
from trillm.wire.response import ResponseReader

_EVENT = b"\ndata:"
_CONTENT = re.compile(rb'"(?:content|reasoning|reasoning_content)"\s*:\s*"(?!")')
_FAILED = re.compile(rb'^data: ?\{"error"|^event: error', re.MULTILINE)
_CODE = re.compile(rb'"code"\s*:\s*"(\w+)"')

#: What is kept of a stream, so that nothing is missed where it was cut: longer than any of the above matches.
_TAIL_BYTES = 32
#: What is kept of an answer that is an error.
_EXCERPT_BYTES = 4096


@define(eq=False)
class Listener:
    """The answers on one connection, one after the other.

    Args:
        tally: where everything is counted.
    """

    tally: Tally
    reader: ResponseReader = field(factory=ResponseReader, init=False)
    _streamed: bool = field(default=False, init=False)
    _asked: float = field(default=0.0, init=False)
    _heard: bool = field(default=False, init=False)
    _content_at: float | None = field(default=None, init=False)
    _failed: bool = field(default=False, init=False)
    _tail: bytes = field(default=b"", init=False)

    @property
    def reusable(self) -> bool:
        """Whether another request can follow."""
        return self.reader.complete and self.reader.keep_alive

    def begin(self, ask: Ask, now: float) -> None:
        """Expect the answer to what is sent ``now``."""
        self.reader.reset()
        self._streamed = ask.streamed
        self._asked = now
        self._heard = self._failed = False
        self._content_at = None
        self._tail = b"\n" if ask.streamed else b""

    def feed(self, data: bytes, now: float) -> bool:
        """Take the bytes of one wake, ``b""`` for the connection's end; tell whether the answer is whole.

        Raises:
            UpstreamFailed: the connection ended too early, or this is not HTTP/1.1.
        """
        reader = self.reader
        if not data:
            reader.feed_eof()
        else:
            reader.feed(data)
            if not self._heard:
                self._heard = True
                self._note(self.tally.first_byte_s, now - self._asked)
        if body := reader.take_body():
            self._take(body, now)
        if reader.complete:
            self._finish(now)
        return reader.complete

    def _take(self, body: bytes, now: float) -> None:
        if self.reader.status != 200:
            self._tail = (self._tail + body)[:_EXCERPT_BYTES]
        elif self._streamed:
            self._take_events(body, now)

    def _take_events(self, body: bytes, now: float) -> None:
        tail = self._tail
        text = tail + body
        tally = self.tally
        if tally.counting:
            tally.chunks += text.count(_EVENT) - tail.count(_EVENT)
        if self._content_at is not None:
            self._note(tally.gap_s, now - self._content_at)
            self._content_at = now
        elif _CONTENT.search(text):
            self._note(tally.first_token_s, now - self._asked)
            self._content_at = now
        if not self._failed and _FAILED.search(text):
            self._failed = True
        self._tail = text[-_TAIL_BYTES:]

    def _finish(self, now: float) -> None:
        if wrong := self._wrong():
            self.tally.errors[wrong] += self.tally.counting
        elif self.tally.counting:
            self.tally.requests += 1
            self.tally.total_s.append(now - self._asked)

    def _wrong(self) -> str | None:
        """Say in a few words what is wrong with a whole answer, if something is."""
        if self.reader.status != 200:
            code = _CODE.search(self._tail)
            return f"status {self.reader.status}" + (f" {code[1].decode()}" if code else "")
        if not self._streamed:
            return None
        if self._failed:
            return "error event in a stream"
        return None if b"[DONE]" in self._tail else "stream that ended without [DONE]"

    def _note(self, times_s: "array[float]", seconds: float) -> None:
        if self.tally.counting:
            times_s.append(seconds)
