"""What another server is shown of a connection: whole requests as ours reads them, and nothing that it refuses."""

import pytest
import trio.testing
from fuzz import handed_over
from hypothesis import given
from hypothesis import strategies as st

from trillm.wire.screen import REFUSED, Screen, Screened

GET = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
BOTH = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


def shown(*pieces: bytes) -> bytes:
    return handed_over.shown(list(pieces))


def test_sound_requests_pass_as_they_came():
    assert shown(GET + POST + GET) == GET + POST + GET


def test_of_a_head_nothing_is_shown_before_it_is_whole():
    screen = Screen()
    assert screen.pass_on(GET[:-1]) == b""
    assert screen.pass_on(GET[-1:]) == GET


def test_a_body_passes_while_it_comes():
    screen = Screen()
    screen.pass_on(POST[:-4])
    assert [screen.pass_on(b"el"), screen.pass_on(b"lo")] == [b"el", b"lo"]


def test_chunks_are_framed_anew_without_extensions_and_trailers():
    assert shown(CHUNKED + b"002;x=y\r\nhi\r\n000\r\nX-Sum: 1\r\n\r\n" + GET) == (
        CHUNKED + b"2\r\nhi\r\n0\r\n\r\n" + GET
    )


@pytest.mark.parametrize(
    ("hostile", "before"),
    [
        (BOTH, b""),
        (GET.replace(b"Host: a", b"Host: a\r\n folded"), b""),
        (GET.replace(b"\r\n", b"\n"), b""),
        (CHUNKED + b"2\nhi\r\n0\r\n\r\n", CHUNKED),
        (CHUNKED + b"10000000000000001\r\n", CHUNKED),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000, b""),
    ],
    ids=["both lengths", "folded", "bare line feeds", "bare line feed in chunks", "an endless chunk", "a large head"],
)
def test_in_place_of_what_is_refused_comes_what_everybody_refuses_and_then_nothing(hostile, before):
    screen = Screen()
    assert screen.pass_on(GET + hostile) == GET + before + REFUSED
    assert screen.pass_on(GET) == b""


def test_what_follows_the_last_request_is_not_shown():
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert shown(last + POST, GET) == last


def test_no_other_protocol_is_offered():
    offer = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"
    passed = shown(GET.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n") + POST)
    assert b"h2c" not in passed
    assert b"AAMA" not in passed
    assert passed.endswith(POST)


@given(
    st.lists(st.sampled_from([*handed_over.SEEDS, *handed_over.WORDS]) | st.binary(max_size=20), max_size=8),
    st.binary(max_size=4),
)
def test_h11_sees_the_requests_that_we_accept_and_no_other(pieces, steps):
    handed_over.check(b"".join(pieces), steps)


async def test_a_screened_stream_gives_what_may_be_shown_until_it_ends():
    ours, theirs = trio.testing.memory_stream_pair()
    screened = Screened(theirs)
    await ours.send_all(GET[:9])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, GET[9:])
        assert await screened.receive_some(65536) == GET
    await ours.send_all(BOTH + POST)
    assert await screened.receive_some(65536) == REFUSED
    await ours.send_all(POST)
    await ours.send_eof()
    assert await screened.receive_some(65536) == b""
    await screened.send_all(b"hi")
    assert await ours.receive_some(10) == b"hi"
