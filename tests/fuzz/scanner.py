"""What holds for any stream of server-sent events."""

import re

from fuzz.cuts import ways
from trillm.sse import Frame, Kind, Scanner

#: Small, so that inputs of a fuzzer reach it.
LIMIT = 300

#: Frames (what came before an event that was too large is not compared), complete, malformed.
Reading = tuple[list[Frame], bool, int] | None


def read(pieces: list[bytes]) -> Reading:
    """Read a stream to its end; None: an event was too large."""
    scanner = Scanner(max_frame_bytes=LIMIT)
    try:
        frames = [frame for piece in pieces for frame in scanner.feed(piece)] + scanner.end()
    except ValueError:
        return None
    return frames, scanner.complete, scanner.malformed


def check(stream: bytes, steps: bytes) -> None:
    """Hold what must hold."""
    reading, *others = map(read, ways(stream, steps))
    others.append(read(re.split(rb"(?<=\n\n)", stream)))  # each event by itself, as tokens come
    for other in others:
        assert other == reading, f"{reading} in one piece, {other} in several"
    if reading is not None:
        frames, complete, malformed = reading
        check_frames(frames)
        check_ending(frames, complete=complete)
        assert malformed == sum(frame.kind is Kind.MALFORMED for frame in frames)
        sound = [frame for frame in frames if frame.kind not in (Kind.MALFORMED, Kind.ERROR)]  # errors are reworded
        again = read([frame.raw for frame in sound])
        assert again is None or again[0] == sound, "what leaves is read differently"


def check_frames(frames: list[Frame]) -> None:
    """Nothing leaves but whole events of data and comments."""
    for frame in frames:
        assert frame.raw.endswith(b"\n\n") != (frame.kind is Kind.MALFORMED)
        assert b"\r" not in frame.raw
        for line in frame.raw.rstrip(b"\n").split(b"\n"):
            assert frame.kind is Kind.MALFORMED or line.startswith((b"data:", b":"))


def check_ending(frames: list[Frame], *, complete: bool) -> None:
    """Nothing follows ``[DONE]``, and a stream that failed is not complete."""
    kinds = [frame.kind for frame in frames]
    assert Kind.DONE not in kinds[:-1]
    assert not (complete and Kind.ERROR in kinds)
    assert not complete or Kind.DONE in kinds or Kind.FINISH in kinds


_WHOLE = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
)
SEEDS = (
    _WHOLE,
    b': ping\r\n\r\nevent: error\r\ndata: {"error":{"message":"m","code":500}}\r\n\r\n',
    b'error: {"code":500,"message":"m"}\n\ndata: {"object":"error","message":"m"}\n\n',
    b'id: 1\rretry: 5\rdata: {"choices":\rdata:[{"text":"a"}]}\r\rdata: {broken\n\ndata: [DONE]',
    b"\n\n\n" + b"data: " + b"x" * 290 + b"\n\n",
)  # fmt: skip
WORDS = (
    b"data: ", b"event: error", b"error: ", b"\n\n", b"\r\n\r\n", b"\r", b"[DONE]", b'{"choices":[', b'"delta":{',
    b'"content":"', b'"finish_reason":"stop"', b'"index":1', b'"usage":{"prompt_tokens":1}', b'"error":',
    b'"object":"error"', b"\xef\xbb\xbf", b"\xff", b"null", b": ",
)  # fmt: skip
