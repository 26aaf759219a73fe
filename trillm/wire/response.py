"""Reads HTTP/1.1 responses: bytes in, status, headers and body pieces out (RFC 9112). Nothing here awaits.

llhttp (through ``httptools``) does the parsing; this module adds what it does not say: how the body ends, whether the
end was a real one, and whether the connection can carry another request.
"""

import httptools

from trillm.errors import UpstreamFailed

MAX_HEAD_BYTES = 64 * 1024

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_KEEPING = frozenset({b"keep-alive", b"close"})


class ResponseReader:
    """One connection's incoming side. :meth:`reset` before each response after the first."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.reset()

    def reset(self) -> None:
        """Forget the last response, which was complete and left the connection usable, and expect the next."""
        self._pieces: list[bytes] = []
        self.body_bytes = 0
        self._head_bytes = 0
        self._until_close = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_complete = False
        self.complete = False
        self.keep_alive = False
        self.started = False

    def feed(self, data: bytes | bytearray) -> None:
        """Take the next bytes. What follows a complete response is not looked at, and nothing can come after it.

        Raises:
            UpstreamFailed: this is not HTTP/1.1.
        """
        self.started = True
        if not self.head_complete:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._not_understood(exc)
        if not self.head_complete and self._head_bytes > MAX_HEAD_BYTES:
            raise UpstreamFailed(f"the server's response head is larger than {MAX_HEAD_BYTES} bytes")

    def _not_understood(self, exc: Exception) -> None:
        if self.complete:
            self.keep_alive = False
        elif self.status == 101:
            raise UpstreamFailed("the server wants to switch protocols") from exc
        else:
            raise UpstreamFailed(f"the server's answer is not valid HTTP: {exc}") from exc

    def feed_eof(self) -> None:
        """The server closed the connection.

        Raises:
            UpstreamFailed: in the middle of the response. Where only the close marks the end, it is one.
        """
        if self.complete:
            return
        if not self.started:
            raise UpstreamFailed("the server closed the connection without an answer")
        if not (self.head_complete and self._until_close):
            raise UpstreamFailed("the server closed the connection in the middle of its answer")
        self.complete = True
        self.keep_alive = False

    def take_body(self) -> bytes:
        """Return the body bytes that came since the last call, transfer coding removed."""
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # What llhttp calls; after the end of the response, for bytes that nobody asked for.

    def on_message_begin(self) -> None:
        """Begin the response, the one after an interim response, or one too many."""
        if self.complete:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is not one and is dropped (RFC 9110 §6.5.1)."""
        if not self.head_complete:
            # llhttp leaves white space at a value's end, which h11 refuses to send on.
            self.headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """End the head; of an interim response (1xx) as well."""
        if self.complete:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self.head_complete = True
        framed, connection = False, b""
        for name, value in self.headers:
            if name in _FRAMING:
                framed = True
            elif name == b"connection":
                connection = b"%b,%b" % (connection, value.lower()) if connection else value.lower()
        self._until_close = not framed
        if connection and connection not in _KEEPING:
            self._forget({name.strip() for name in connection.split(b",")})

    def _forget(self, names: set[bytes]) -> None:
        """Drop the headers that the server says are for this connection alone (RFC 9110 §7.6.1)."""
        self.headers = [header for header in self.headers if header[0] not in names]

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if not self.complete:
            self._pieces.append(data)
            self.body_bytes += len(data)

    def on_message_complete(self) -> None:
        """End the response; after an interim one the real one follows."""
        if not self.head_complete:
            self.headers = []
        elif not self.complete:
            self.complete = True
            # Only now, for llhttp lets a trailer end the connection too, and would not read another response.
            self.keep_alive = self._parser.should_keep_alive()
