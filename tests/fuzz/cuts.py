"""One stream, cut into pieces in several ways."""

from collections.abc import Iterator


def in_steps(stream: bytes, steps: bytes) -> list[bytes]:
    """Cut into pieces as long as each of ``steps`` says in turn, 0 being one byte; without steps, not at all."""
    pieces, at, turn = [], 0, 0
    while at < len(stream):
        length = steps[turn % len(steps)] + 1 if steps else len(stream)
        pieces.append(stream[at : at + length])
        at, turn = at + length, turn + 1
    return pieces


def ways(stream: bytes, steps: bytes) -> Iterator[list[bytes]]:
    """Yield the stream as one piece, in these steps, and byte by byte."""
    yield in_steps(stream, b"")
    yield in_steps(stream, steps)
    yield in_steps(stream, b"\0")
