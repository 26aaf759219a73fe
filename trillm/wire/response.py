"""Reads HTTP/1.1 responses: bytes in, status, headers and body pieces out (RFC 9112). Nothing here awaits.

llhttp (through ``httptools``) does the parsing; this module adds what it does not say: how the body ends, whether the
end was a real one, and whether the connection can carry another request.
"""

import httptools

from trillm.errors import UpstreamFailed

MAX_HEAD_BYTES = 64 * 1024


class ResponseReader:
    """One connection's incoming side. :meth:`reset` before each response."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the last response and expect the next."""
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._head_bytes = 0
        self._until_close = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_complete = False
        self.complete = False
        self.keep_alive = False
        self.started = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            UpstreamFailed: this is not HTTP/1.1, or it goes on after its end.
        """
        if self.complete:
            raise UpstreamFailed("the server sent bytes after the end of its answer")
        self.started = True
        if not self.head_complete:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            raise UpstreamFailed("the server wants to switch protocols") from exc
        except httptools.HttpParserError as exc:
            raise UpstreamFailed(f"the server's answer is not valid HTTP: {exc}") from exc
        if not self.head_complete and self._head_bytes > MAX_HEAD_BYTES:
            raise UpstreamFailed(f"the server's response head is larger than {MAX_HEAD_BYTES} bytes")

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

    # What llhttp calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return  # an interim response: its end clears the way for the real one
        self.head_complete = True
        self.keep_alive = self._parser.should_keep_alive()
        names = {name for name, _ in self.headers}
        self._until_close = b"content-length" not in names and b"transfer-encoding" not in names

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self.head_complete:
            self.complete = True
        else:
            self.headers = []
