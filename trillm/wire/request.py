"""Reads HTTP/1.1 requests: bytes in, a whole head and body pieces out (RFC 9112). Nothing here awaits.

llhttp (through ``httptools``) judges every byte of heads and chunks. It is shown them only up to the next
blank line, because a head and a chunked body end there and nowhere else: it never sees a byte of the next
request, and a connection can be handed on at any request's edge with ``head.raw + reader.unread()``.
Deadlines for slow senders belong to whoever owns the socket.
"""

import httptools

from trillm.errors import BadRequest, TooLarge
from trillm.wire.request_head import RequestHead, build_head

HEAD_BYTES = 64 * 1024
BODY_BYTES = 64 * 1024 * 1024

_BLANK_LINE = b"\r\n\r\n"


class RequestReader:
    """One connection's incoming side.

    :meth:`feed` what was received, then ask: :meth:`next_head`, then :meth:`next_body` until it returns
    ``b""``, then :meth:`next_head` again. What was fed and not asked for is held as it came, so receive no
    more than there is room for. After an error the place in the stream is lost: answer it and close.

    Args:
        head_bytes: the largest head.
        body_bytes: the largest body, without its transfer coding.
    """

    def __init__(self, *, head_bytes: int = HEAD_BYTES, body_bytes: int = BODY_BYTES) -> None:
        self._head_limit = head_bytes
        self._body_limit = body_bytes
        self._buffer = b""
        self._expect_head()

    def _expect_head(self) -> None:
        # A parser per request (0.6 µs): none inherits a state, and a body of known length needs none at all.
        self._events = _Events()
        self._parser = httptools.HttpRequestParser(self._events)
        self._seen = 0  # how much of the buffer the parser was shown
        self._in_body = False
        self._chunked = False
        self._left = 0  # body bytes that are still to come, or when chunked: that may still come
        self._framing = 0  # bytes of chunk sizes, extensions and trailers

    @property
    def idle(self) -> bool:
        """Whether nothing of a next request has come: the one place where the client may close."""
        return not self._buffer and not self._in_body

    @property
    def body_left(self) -> int:
        """Bytes of the body that are still to come; if it comes in chunks, that may still come."""
        return self._left if self._in_body else 0

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer = self._buffer + data if self._buffer else data

    def unread(self) -> bytes:
        """Return what was fed and is part of no head or body returned so far."""
        return self._buffer[self._seen :] if self._in_body else self._buffer

    def next_head(self) -> RequestHead | None:
        """Return the next request's head, or None until more was fed.

        Raises:
            BadRequest: this is no HTTP/1.1 request, or one that two servers could read differently.
            TooLarge: the head is, or the body will be.
        """
        if self._in_body:
            raise RuntimeError("the last request's body has not been read to its end")
        if not self._buffer:
            return None
        if not self._seen:
            self._buffer = self._buffer.lstrip(b"\r\n")  # empty lines before a request are allowed (§2.2)
        while self._seen < len(self._buffer) and not self._events.head_complete:
            self._show_parser()
        if self._seen > self._head_limit:
            raise TooLarge(f"The request's head is larger than {self._head_limit} bytes.")
        if not self._events.head_complete:
            return None
        head = build_head(self._take_seen(), upgrade=self._events.upgrade)
        self._in_body = True
        self._chunked = head.body_bytes is None
        self._left = self._body_limit if head.body_bytes is None else head.body_bytes
        self._check_body_size()
        return head

    def next_body(self) -> bytes | None:
        """Return the next piece of the body, ``b""`` after the last one, or None until more was fed.

        Raises:
            BadRequest: the chunks are not valid.
            TooLarge: they carry more than the limit.
        """
        if self._chunked:
            return self._next_chunks()
        if not self._left:
            self._expect_head()
            return b""
        piece, self._buffer = self._buffer, b""
        if len(piece) > self._left:
            piece, self._buffer = piece[: self._left], piece[self._left :]
        self._left -= len(piece)
        return piece or None

    def _next_chunks(self) -> bytes | None:
        before = self._seen
        while self._seen < len(self._buffer) and not self._events.complete:
            self._show_parser()
        body = self._events.take_body()
        self._left -= len(body)
        self._check_body_size()
        self._framing += self._seen - before - len(body)
        self._check_framing()
        if self._events.complete and not body:
            self._take_seen()
            self._expect_head()
            return b""
        self._forget_seen()
        return body or None

    def _show_parser(self) -> None:
        """Let the parser see the buffer up to and including the next blank line."""
        blank = self._buffer.find(_BLANK_LINE, max(0, self._seen - 3))  # it may have seen part of one
        end = len(self._buffer) if blank < 0 else blank + 4
        fresh = self._buffer[self._seen : end]
        self._seen = end
        try:
            self._parser.feed_data(fresh)
        except httptools.HttpParserUpgrade:
            self._events.upgrade = True
        except httptools.HttpParserError as exc:
            raise BadRequest(f"This is not a valid HTTP/1.1 request: {exc}.") from exc

    def _take_seen(self) -> bytes:
        seen, self._buffer = self._buffer[: self._seen], self._buffer[self._seen :]
        self._seen = 0
        return seen

    def _forget_seen(self) -> None:
        """Drop what was seen but for the three bytes that may be the beginning of a blank line."""
        keep = min(3, self._seen)
        self._buffer = self._buffer[self._seen - keep :]
        self._seen = keep

    def _check_body_size(self) -> None:
        if self._left < 0 or self._left > self._body_limit:
            raise TooLarge(f"The request's body is larger than {self._body_limit} bytes.")

    def _check_framing(self) -> None:
        # Of all of it: what came since the last content would depend on the pieces in which it came.
        if self._framing > self._head_limit + self._body_limit:
            raise BadRequest("The chunks of this request's body have more framing than a body may have content.")


class _Events:
    """What llhttp calls. Apart from the parser, or both were garbage that only the collector finds."""

    def __init__(self) -> None:
        self.head_complete = False
        self.complete = False
        self.upgrade = False
        self._pieces: list[bytes] = []

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self.complete = True

    def take_body(self) -> bytes:
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body
