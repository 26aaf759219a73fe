"""What holds for any bytes that a client sends: one meaning, however they arrive, and h11 knows no other."""

import h11
from attrs import asdict, field, frozen

from fuzz.cuts import ways
from trillm.errors import BadRequest, TooLarge
from trillm.wire.request import RequestReader
from trillm.wire.request_head import RequestHead

#: Small, so that inputs of a fuzzer reach them.
LIMITS = {"head_bytes": 400, "body_bytes": 200}


@frozen
class Request:
    """A whole request: its head, which must be the same in all it says, and its body."""

    head: RequestHead = field(eq=asdict)
    body: bytes


def read(pieces: list[bytes], **limits: int) -> tuple[list[Request], bool]:
    """Return the requests that are whole, and whether one after them was refused."""
    reader = RequestReader(**(LIMITS | limits))
    requests: list[Request] = []
    head: RequestHead | None = None
    body: list[bytes] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while head is not None or (head := reader.next_head()) is not None:
                while part := reader.next_body():
                    body.append(part)
                if part is None:
                    break
                requests.append(Request(head, b"".join(body)))
                head, body = None, []
    except (BadRequest, TooLarge):
        return requests, True
    return requests, False


def check(stream: bytes, steps: bytes) -> None:
    """Hold what must hold."""
    reading, *others = map(read, ways(stream, steps))
    for other in others:
        assert other == reading, f"{reading} in one piece, {other} in several"
    for request in reading[0]:
        check_head(request.head)
    check_edges(stream)


def check_head(head: RequestHead) -> None:
    """No accepted head leaves two servers a choice."""
    names = [name for name, _ in head.headers]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert names.count(b"host") == 1 or (head.version == b"1.0" and b"host" not in names)
    assert (head.body_bytes is None) == (b"transfer-encoding" in names)
    assert head.body_bytes is None or head.body_bytes >= 0
    assert head.raw.endswith(b"\r\n\r\n")
    assert head.raw.count(b"\n") == head.raw.count(b"\r") == len(head.headers) + 2
    assert b"\0" not in head.raw
    assert head.target.startswith(b"/") or head.target == b"*"
    assert all(name.strip() == name and b":" not in name and b" " not in name for name in names)


def check_edges(stream: bytes) -> None:
    """Where we see a request's end, h11 sees it too, with the same body, unless it refuses the request."""
    reader, at = RequestReader(**LIMITS), 0
    reader.feed(stream)
    try:
        while (head := reader.next_head()) is not None:
            pieces = []
            while piece := reader.next_body():
                pieces.append(piece)
            if piece is None:
                return
            end = len(stream) - len(reader.unread())
            check_with_h11(head, b"".join(pieces), stream[at:end])
            at = end
    except (BadRequest, TooLarge):
        return


def check_with_h11(head: RequestHead, body: bytes, raw: bytes) -> None:
    """Compare with what h11 makes of exactly the bytes that we took for one request."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(raw.lstrip(b"\r\n"))  # as RFC 9112 §2.2 allows
    try:
        events = [peer.next_event()]
        while isinstance(events[-1], h11.Request | h11.Data):
            events.append(peer.next_event())
    except h11.RemoteProtocolError:
        return
    assert isinstance(events[0], h11.Request), events
    assert isinstance(events[-1], h11.EndOfMessage), f"h11 waits for more: {events}"
    assert events[0].method == head.method
    assert b"".join(bytes(event.data) for event in events[1:-1]) == body
    assert peer.trailing_data[0] == b"", "h11 sees a second request in it"


_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
SEEDS = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    _HEAD + b"Content-Length: 5\r\n\r\nhello" + _HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\n",
    _HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a/x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
    _HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    b"\r\nOPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
)
WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b":", b";", b"GET ", b"POST ", b"CONNECT ",
    b"PRI * HTTP/2.0", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: a\r\n", b"Content-Length: ",
    b"Transfer-Encoding: ", b"chunked", b"identity", b"gzip, chunked", b"Connection: ", b"Upgrade: h2c\r\n",
    b"keep-alive", b"close", b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"http://a",
    b"ffffffffffffffff", b"+5", b"-1", b"\x0b",
)  # fmt: skip
