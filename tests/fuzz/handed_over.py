"""What holds for a connection that h11 goes on reading: it is shown the requests that we accept, and no other."""

import h11

from fuzz import requests
from fuzz.cuts import ways
from trillm.wire.screen import REFUSED, Screen

SEEDS, WORDS = requests.SEEDS, requests.WORDS


def shown(pieces: list[bytes]) -> bytes:
    """Return what is passed on of a connection, whose chunks are framed as they come."""
    screen = Screen()
    return b"".join(map(screen.pass_on, pieces))


def check(stream: bytes, steps: bytes) -> None:
    """Hold what must hold."""
    expected, refused = requests.read([stream], body_bytes=1_000_000, head_bytes=64 * 1024)
    for number, request in enumerate(expected):
        if not request.head.keep_alive:
            expected, refused = expected[: number + 1], False
            break
    for pieces in ways(stream, steps):
        passed = shown(pieces)
        assert passed.endswith(REFUSED) == refused or b"\0" in stream
        seen = read_with_h11(passed)
        ours = [(request.head.method, request.body) for request in expected]
        assert seen == ours[: len(seen)], f"h11 reads {seen}, not {ours}"


def read_with_h11(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Return the requests that h11 reads whole, up to what it refuses."""
    peer = h11.Connection(h11.SERVER)
    if not stream:
        return []  # it would be the connection's end to h11
    peer.receive_data(stream)
    found: list[tuple[bytes, bytes]] = []
    method, body = b"", b""
    try:
        while (event := peer.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                method, body = event.method, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((method, body))
                if peer.their_state is not h11.DONE:
                    return found
                peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                peer.send(h11.EndOfMessage())
                if peer.our_state is not h11.DONE:
                    return found
                peer.start_next_cycle()
    except h11.RemoteProtocolError:
        return found
    return found
