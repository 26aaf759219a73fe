"""The bytes of an HTTP/1.1 answer: its head, and the chunks of a body of unknown length (RFC 9112)."""

from collections.abc import Iterable
from http import HTTPStatus

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode("ascii")) for s in HTTPStatus}


def head(status: int, headers: Iterable[tuple[bytes, bytes]], *, length: int | None) -> bytes:
    """Build status line and headers.

    Args:
        status: any three digits.
        headers: all but those that say where the body ends.
        length: bytes of the body; None: it comes in chunks and ends with :data:`LAST_CHUNK`.

    Raises:
        ValueError: a header contains a line break.
    """
    fields = [b"%b: %b" % header for header in headers]
    fields.append(b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length)
    lines = b"\r\n".join(fields)
    if lines.count(b"\n") != len(fields) - 1 or lines.count(b"\r") != len(fields) - 1:
        raise ValueError("a response header contains a line break")
    return (_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status) + lines + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Frame one piece of a chunked body. It must not be empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
