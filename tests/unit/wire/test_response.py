"""Reading HTTP/1.1 responses: how a body ends, whether that was the end, and what may follow."""

import pytest
from fuzz import responses
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import UpstreamFailed
from trillm.wire.response import MAX_HEAD_BYTES, ResponseReader

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 7\r\n\r\n"
TO_THE_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nhello"


def read(*pieces: bytes, eof: bool = False) -> ResponseReader:
    reader = ResponseReader()
    for piece in pieces:
        reader.feed(piece)
    if eof:
        reader.feed_eof()
    return reader


def in_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize(
    ("response", "eof", "keep_alive"),
    [
        (PLAIN, False, True),
        (CHUNKED, False, True),
        (TO_THE_CLOSE, True, False),
        (PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), False, False),
        (PLAIN.replace(b"1.1 200 OK\r\n", b"1.0 200 OK\r\nConnection: keep-alive\r\n"), False, True),
        (PLAIN.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), False, False),
        (CHUNKED.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), False, False),
        (TO_THE_CLOSE.replace(b"HTTP/1.1", b"HTTP/1.0"), True, False),
        (PLAIN.replace(b" OK", b""), False, True),
        (b"\r\n" + PLAIN, False, True),
    ],
)
@pytest.mark.parametrize("cut", [lambda data: [data], in_bytes], ids=["whole", "byte by byte"])
def test_a_body_ends_as_its_head_says(response, eof, keep_alive, cut):
    reader = read(*cut(response), eof=eof)
    assert (reader.status, reader.take_body(), reader.take_body()) == (200, b"hello", b"")
    assert reader.complete
    assert reader.keep_alive is keep_alive


@pytest.mark.parametrize("head", [b"204 No Content\r\n", b"304 Not Modified\r\nContent-Length: 5\r\n"])
def test_some_responses_have_no_body(head):
    reader = read(b"HTTP/1.1 " + head + b"\r\n")
    assert reader.complete
    assert reader.keep_alive
    assert reader.take_body() == b""


def test_header_names_are_lower_case_and_values_as_they_came():
    reader = read(b"HTTP/1.1 200 OK\r\nX-A: B c\r\nx-a:\t2 \r\nContent-Length: 0\r\n\r\n")
    assert reader.headers == [(b"x-a", b"B c"), (b"x-a", b"2"), (b"content-length", b"0")]


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        (b"connection: keep-alive", {b"connection", b"x-one", b"x-two"}),
        (b"Connection: close", {b"connection", b"x-one", b"x-two"}),
        (b"connection: keep-alive, X-One", {b"connection", b"x-two"}),
        (b"connection: x-one ,x-two", {b"connection"}),
        (b"connection: close\r\nConnection: X-TWO", {b"connection", b"x-one"}),
        (b"connection: content-length", {b"connection", b"x-one", b"x-two"}),
    ],
)
def test_what_a_server_says_is_for_this_connection_is_dropped(connection, left):
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-one: 1\r\n" + connection + b"\r\nX-Two: 2\r\n\r\nok")
    assert {name for name, _ in reader.headers} - {b"content-length"} == left
    assert (reader.complete, reader.take_body()) == (True, b"ok")


def test_a_trailer_is_not_a_header():
    assert read(CHUNKED).headers == [(b"transfer-encoding", b"chunked")]


def test_a_body_comes_in_the_pieces_it_came_in():
    reader = read(PLAIN[:-3])
    assert reader.take_body() == b"he"
    assert not reader.complete
    reader.feed(b"l")
    reader.feed(b"lo")
    assert reader.take_body() == b"llo"
    assert reader.complete


def test_the_head_is_known_before_the_body_is():
    reader = read(PLAIN[:-5])
    assert reader.head_complete
    assert not reader.complete
    assert reader.status == 200


@pytest.mark.parametrize("cut", [lambda data: [data], in_bytes], ids=["whole", "byte by byte"])
def test_interim_responses_are_skipped(cut):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    reader = read(*cut(interim))
    assert reader.started
    assert not reader.head_complete
    for piece in cut(PLAIN):
        reader.feed(piece)
    assert (reader.status, reader.take_body()) == (200, b"hello")
    assert dict(reader.headers).keys() == {b"content-type", b"content-length"}


def test_a_reader_is_reset_for_the_next_response():
    reader = read(CHUNKED)
    reader.reset()
    assert not reader.started
    reader.feed(PLAIN)
    assert (reader.take_body(), reader.headers[0]) == (b"hello", (b"content-type", b"text/plain"))


@pytest.mark.parametrize("trailer", [b"Connection: close", b"Transfer-Encoding: gzip"])
def test_after_a_trailer_that_ends_the_connection_it_is_not_used_again(trailer):
    reader = read(CHUNKED.replace(b"X-Sum: 7", trailer))
    assert (reader.take_body(), reader.complete, reader.keep_alive) == (b"hello", True, False)


# ── what is no response ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>404</html>",
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
    ],
)
def test_garbage_is_no_answer(garbage):
    with pytest.raises(UpstreamFailed, match="not valid HTTP"):
        read(garbage)


@pytest.mark.parametrize("head", [b"Upgrade: h2c\r\nConnection: upgrade\r\n", b""])
def test_nobody_asked_for_another_protocol(head):
    with pytest.raises(UpstreamFailed, match="switch protocols"):
        read(b"HTTP/1.1 101 Switching Protocols\r\n" + head + b"\r\n")


def test_an_offer_of_another_protocol_changes_nothing():
    assert read(PLAIN.replace(b"OK\r\n", b"OK\r\nUpgrade: h2c\r\n")).take_body() == b"hello"


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_HEAD_BYTES // 6),
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 25 + 1),
    ],
)
def test_a_head_that_does_not_end_is_given_up(endless):
    with pytest.raises(UpstreamFailed, match="head is larger than 65536 bytes"):
        read(*(endless[i : i + 1000] for i in range(0, len(endless), 1000)))


def test_a_large_body_is_no_large_head():
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", *[b"x" * 100_000] * 10)
    assert len(reader.take_body()) == 1_000_000


# ── cut ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_connection_closed_before_any_byte_is_no_answer():
    with pytest.raises(UpstreamFailed, match="without an answer"):
        read(eof=True)


@pytest.mark.parametrize("response", [PLAIN, CHUNKED], ids=["length", "chunked"])
def test_a_response_cut_anywhere_never_looks_complete(response):
    for length in range(1, len(response)):
        reader = read(response[:length])
        assert not reader.complete
        with pytest.raises(UpstreamFailed, match="in the middle of its answer"):
            reader.feed_eof()
        assert not reader.complete


def test_a_head_cut_anywhere_is_no_response():
    head = TO_THE_CLOSE[:-5]
    for length in range(1, len(head)):
        with pytest.raises(UpstreamFailed, match="in the middle of its answer"):
            read(head[:length], eof=True)


def test_a_coding_nobody_asked_for_is_not_trusted_to_end_with_the_connection():
    with pytest.raises(UpstreamFailed, match="in the middle"):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", eof=True)


def test_the_close_after_a_complete_response_is_nothing_new():
    reader = read(PLAIN, eof=True)
    assert reader.complete
    assert reader.take_body() == b"hello"


# ── too much ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "more",
    [
        b"x",
        b"\x00\x01",
        b"HTTP/1.1 500 Oops\r\nX: y\r\nContent-Length: 3\r\n\r\nbad",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        PLAIN,
    ],
)
@pytest.mark.parametrize("response", [PLAIN, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("together", [True, False])
def test_what_follows_the_end_neither_changes_the_response_nor_is_followed_by_another(response, more, together):
    alone = read(response)
    reader = read(response + more) if together else read(response, more)
    assert (reader.status, reader.headers, reader.take_body()) == (200, alone.headers, b"hello")
    assert reader.complete
    assert not reader.keep_alive


@given(
    stream=st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: CHUNKED[: len(tail) * 2] + tail),
    steps=st.binary(max_size=4),
)
def test_any_bytes_in_any_pieces_are_read_alike_or_refused_and_h11_reads_no_other_answer(stream, steps):
    responses.check(stream, steps)
