"""Turns an answer into a script: which bytes go out after which pause, with the fault of the day played in.

Pure: times are numbers and nothing waits. :mod:`trillm.sim.server` performs the script.
"""

import math
from collections.abc import Iterator, Sequence

from attrs import evolve, frozen

from trillm.sim.faults import Fault
from trillm.sim.settings import Cue, Pace
from trillm.wire import answer as wire

#: Seconds to wait, then bytes to send.
Act = tuple[float, bytes]
Headers = tuple[tuple[bytes, bytes], ...]

#: After these the connection is of no more use.
FATAL = frozenset({Fault.REFUSE, Fault.CUT})

_FINAL = frozenset({Fault.CUT, Fault.EOF, Fault.ERROR})
_MIDWAY = _FINAL | {Fault.STALL, Fault.MALFORMED}

DONE = b"data: [DONE]\n\n"

_SSE = b"text/event-stream"
_UNBUFFERED: Headers = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_MALFORMED = b'data: {"id":"chatcmpl-sim","choices":[{"index":0,"delta":{"content":"brok\n\n'
_ERROR = b'{"error":{"message":"A simulated fault.","type":"server_error","param":null,"code":"simulated_fault"}}'
_PAGE = b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>"
_STATUS = {Fault.BUSY: 429, Fault.BROKEN: 500, Fault.UNAVAILABLE: 503}


@frozen
class Stream:
    """The frames of a streamed answer.

    Args:
        opening: what comes before the first token, and together with it.
        tokens: one frame each, sent one by one.
        closing: finish_reason and usage.
    """

    opening: bytes
    tokens: Sequence[bytes]
    closing: bytes


@frozen
class Answer:
    """What is answered if nothing goes wrong.

    Args:
        body: all of it, unless it is streamed.
        stream: or its frames.
        tokens: how many tokens the body has, which says how long it takes.
        status: HTTP.
        content_type: of the body.
        headers: any others.
        bodiless: whether only the head is sent.
        direction: None: answered at once and never wrong, as everything is but generation.
    """

    body: bytes = b""
    stream: Stream | None = None
    tokens: int = 1
    status: int = 200
    content_type: bytes = b"application/json"
    headers: Headers = ()
    bodiless: bool = False
    direction: Pace | None = None

    def in_one_piece(self) -> "Answer":
        """Return the same without a stream: HTTP/1.0 has no chunks."""
        if self.stream is None:
            return self
        body = b"".join((self.stream.opening, *self.stream.tokens, self.stream.closing, DONE))
        return evolve(self, body=body, stream=None, content_type=_SSE, tokens=len(self.stream.tokens))

    def whole(self) -> bytes:
        """Return head and body, of an answer without a stream."""
        headers = ((b"content-type", self.content_type), *self.headers)
        head = wire.head(self.status, headers, length=len(self.body))
        return head if self.bodiless else head + self.body


def play(answer: Answer, cue: Cue) -> Iterator[Act]:
    """Write the script of one answer. If the fault is in :data:`FATAL`, the connection is closed after it."""
    if cue.fault is Fault.REFUSE:
        return
    if cue.fault is Fault.SILENT:
        yield math.inf, b""
    elif cue.fault in _STATUS or cue.fault is Fault.GARBAGE:
        yield 0.0, _instead(answer, cue).whole()
    elif answer.stream is not None:
        yield from _streamed(answer, answer.stream, cue)
    else:
        yield from _at_length(answer, cue)


def _instead(answer: Answer, cue: Cue) -> Answer:
    """Return what a server answers that is broken, full, or no LLM server at all."""
    if cue.fault is Fault.GARBAGE:
        return Answer(_PAGE, content_type=b"text/html", headers=answer.headers)
    retry_after = ((b"retry-after", b"%d" % math.ceil(min(cue.seconds, 86400))),) if cue.fault is Fault.BUSY else ()
    status = _STATUS[cue.fault] if cue.fault else 500
    return Answer(_ERROR, status=status, headers=(*answer.headers, *retry_after))


def _streamed(answer: Answer, stream: Stream, cue: Cue) -> Iterator[Act]:
    late = cue.fault is Fault.SLOW
    yield 0.0 if late else cue.varied(cue.ttft_s), _opening(answer, stream)
    pause_s = cue.seconds if late else 0.0
    last = len(stream.tokens) - 1
    midway = len(stream.tokens) // 2 if cue.after is None else min(cue.after, last + 1)
    for i, data in enumerate((*map(wire.chunk, stream.tokens), _ending(stream, cue))):
        if i == midway and cue.fault in _MIDWAY:
            yield _interruption(cue)
            if cue.fault in _FINAL:
                return
        yield pause_s, data
        pause_s = cue.varied(cue.itl_s) if i < last else 0.0


def _opening(answer: Answer, stream: Stream) -> bytes:
    head = wire.head(200, ((b"content-type", _SSE), *_UNBUFFERED, *answer.headers), length=None)
    return head + wire.chunk(stream.opening) if stream.opening else head


def _ending(stream: Stream, cue: Cue) -> bytes:
    done = b"" if cue.fault is Fault.NODONE else DONE
    return wire.chunk(stream.closing + done) + wire.LAST_CHUNK


def _interruption(cue: Cue) -> Act:
    match cue.fault:
        case Fault.STALL:
            return cue.seconds, b""
        case Fault.MALFORMED:
            return 0.0, wire.chunk(_MALFORMED)
        case Fault.ERROR:
            return 0.0, wire.chunk(b"data: %b\n\n" % _ERROR) + wire.LAST_CHUNK
        case Fault.EOF:
            return 0.0, wire.LAST_CHUNK
    return 0.0, b""  # a cut needs no bytes


def _at_length(answer: Answer, cue: Cue) -> Iterator[Act]:
    late_s = cue.seconds if cue.fault is Fault.SLOW else cue.varied(cue.ttft_s + cue.itl_s * (answer.tokens - 1))
    data = evolve(answer, body=_spoilt(answer.body, cue.fault)).whole()
    half = len(answer.body) // 2
    if cue.fault is Fault.CUT:
        yield late_s, data[:-half]
    elif cue.fault is Fault.STALL:
        yield late_s, data[:-half]
        yield cue.seconds, data[-half:]
    else:
        yield late_s, data


def _spoilt(body: bytes, fault: Fault | None) -> bytes:
    match fault:
        case Fault.MALFORMED:
            return body[: len(body) // 2]
        case Fault.ERROR:
            return _ERROR
        case Fault.EOF:
            return b""
    return body
