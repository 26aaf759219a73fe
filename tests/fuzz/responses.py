"""What holds for any bytes that a server answers: one meaning, however they arrive, one ending, and h11 agrees."""

from typing import Any

import h11

from fuzz.cuts import ways
from trillm.errors import UpstreamFailed
from trillm.wire.response import ResponseReader

BEFORE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"

#: Status, headers, body, whether the connection can be used again; None: the answer is none.
Reading = tuple[int, list[tuple[bytes, bytes]], bytes, bool] | None


def read(pieces: list[bytes], reader: ResponseReader | None = None) -> Reading:
    """Read a response whose server closes the connection after these bytes."""
    reader, body = reader or ResponseReader(), b""
    try:
        for piece in pieces:
            before = (reader.complete, reader.status, list(reader.headers))
            reader.feed(piece)
            more = reader.take_body()
            if before[0]:
                assert (reader.complete, reader.status, reader.headers) == before, "changed after its end"
                assert not more, "a body after its end"
            body += more
        keep_alive = reader.complete and reader.keep_alive
        reader.feed_eof()
    except UpstreamFailed:
        return None
    assert reader.complete
    return reader.status, reader.headers, body, keep_alive


def check(stream: bytes, steps: bytes) -> None:
    """Hold what must hold."""
    reading, *others = map(read, ways(stream, steps))
    for other in others:
        assert other == reading, f"{reading} in one piece, {other} in several"
    check_reuse(stream, reading)
    if reading is not None:
        status, headers, body, _ = reading
        assert 200 <= status <= 999
        assert all(name == name.lower() and b"\r" not in value and b"\n" not in value for name, value in headers)
        theirs = read_with_h11(stream)
        assert theirs is None or theirs == (status, body), f"h11 reads {theirs}"


def check_reuse(stream: bytes, reading: Reading) -> None:
    """On one connection neither the response before nor the one after is read differently."""
    reader = ResponseReader()
    reader.feed(BEFORE)
    reader.reset()
    assert read([stream], reader) == reading, "read differently after another response"
    if reading is not None and reading[3]:
        reader = ResponseReader()
        reader.feed(stream)
        reader.reset()
        assert read([BEFORE], reader) == read([BEFORE]), "spoils the next response"


def read_with_h11(stream: bytes) -> tuple[int, bytes] | None:
    """Return the status and the body that h11 makes of it; None if it refuses it."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(stream.lstrip(b"\r\n"))
    status, body = 0, b""
    try:
        event: Any = peer.next_event()
        while not isinstance(event, h11.EndOfMessage):
            if event is h11.NEED_DATA:
                peer.receive_data(b"")
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                return None
            event = peer.next_event()
    except h11.RemoteProtocolError:
        return None
    return status, body


_OK = b"HTTP/1.1 200 OK\r\n"
SEEDS = (
    _OK + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    _OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 7\r\n\r\n",
    _OK + b"Content-Type: text/event-stream\r\n\r\ndata: [DONE]\n\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + _OK + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.0 503 Busy\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n" + b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
)
WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b":", b";", b"HTTP/1.1 ", b"HTTP/1.0 ", b"200 OK\r\n",
    b"100 Continue", b"204 ", b"304 ", b"101 ", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked", b"identity",
    b"gzip", b"Connection: ", b"Upgrade: h2c\r\n", b"keep-alive", b"close", b"0\r\n\r\n", b"5\r\nhello\r\n",
    b"ffffffffffffffff", b"+5",
)  # fmt: skip
