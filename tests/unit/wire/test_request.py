"""The server's side of HTTP/1.1: whole requests out of any pieces, none that is ambiguous."""

from itertools import pairwise

import pytest
from fuzz import requests
from hypothesis import example, given
from hypothesis import strategies as st

from trillm.errors import BadRequest, TooLarge
from trillm.wire.request import RequestReader

GET = b"GET /health HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST /v1/x?y=1 HTTP/1.1\r\nhost: a.example\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED_HEAD = b"POST /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b"5\r\nhello\r\n4;x=y\r\n\r\n\r\n\r\n0\r\n\r\n"
TRAILERS = CHUNKED_HEAD + b"2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n"


def read_all(reader):
    """Take every request that is complete in what was fed; return [(method, path, body)]."""
    requests = []
    while True:
        if (head := reader.next_head()) is None:
            return requests
        pieces = []
        while piece := reader.next_body():
            pieces.append(piece)
        if piece is None:
            return requests
        requests.append((head.method, head.path, b"".join(pieces)))


def read_in_pieces(pieces, **limits):
    """The same, with the pieces fed one by one, as a connection would."""
    reader, requests, head, body = RequestReader(**limits), [], None, []
    for piece in pieces:
        reader.feed(piece)
        while True:
            if head is None and (head := reader.next_head()) is None:
                break
            if (part := reader.next_body()) is None:
                break
            body.append(part)
            if not part:
                requests.append((head.method, head.path, b"".join(body)))
                head, body = None, []
    return requests


def test_a_whole_head_comes_out_at_once():
    reader = RequestReader()
    reader.feed(POST)
    head = reader.next_head()
    assert (head.method, head.target, head.path, head.version) == (b"POST", b"/v1/x?y=1", b"/v1/x", b"1.1")
    assert head.headers == [(b"host", b"a.example"), (b"content-length", b"5")]
    assert (head.body_bytes, head.keep_alive, head.expects_continue, head.upgrade) == (5, True, False, False)
    assert head.raw + reader.unread() == POST
    assert head.get(b"host") == b"a.example"
    assert head.get(b"accept") is None


def test_a_body_comes_in_the_pieces_it_was_sent_in():
    reader = RequestReader()
    reader.feed(POST[:-3])
    reader.next_head()
    assert reader.next_body() == b"he"
    assert reader.next_body() is None
    reader.feed(b"llo" + GET)
    assert reader.next_body() == b"llo"
    assert reader.next_body() == b""
    assert reader.unread() == GET


@pytest.mark.parametrize("first", [GET, POST, CHUNKED, TRAILERS], ids=["get", "length", "chunks", "trailers"])
def test_the_parser_never_sees_a_byte_of_the_next_request(first):
    reader = RequestReader()
    reader.feed(first + b"!! this is no request !!")
    assert reader.next_head() is not None
    while reader.next_body():
        pass
    assert reader.unread() == b"!! this is no request !!"


def test_before_the_end_of_a_chunked_body_is_read_what_follows_is_already_apart():
    reader = RequestReader()
    reader.feed(CHUNKED + GET)
    reader.next_head()
    assert reader.next_body() == b"hello\r\n\r\n"
    assert reader.unread() == GET


def test_pipelined_requests_come_out_one_after_the_other():
    assert read_in_pieces([GET + POST + CHUNKED + TRAILERS + b"\r\n" + GET]) == [
        (b"GET", b"/health", b""),
        (b"POST", b"/v1/x", b"hello"),
        (b"POST", b"/c", b"hello\r\n\r\n"),
        (b"POST", b"/c", b"hi"),
        (b"GET", b"/health", b""),
    ]


def test_an_error_in_a_later_request_does_not_touch_an_earlier_one():
    reader = RequestReader()
    reader.feed(GET + b"BROKEN\r\n\r\n")
    assert reader.next_head().path == b"/health"
    assert reader.next_body() == b""
    with pytest.raises(BadRequest):
        reader.next_head()


@given(
    order=st.lists(st.sampled_from([GET, POST, CHUNKED, TRAILERS]), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 700), max_size=12),
)
@example(order=[CHUNKED, GET], cuts=list(range(300)))
def test_any_split_of_a_stream_gives_the_same_requests(order, cuts):
    stream = b"".join(order)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert read_in_pieces(pieces) == read_all(_fed(stream))
    assert len(read_all(_fed(stream))) == len(order)


def _fed(data):
    reader = RequestReader()
    reader.feed(data)
    return reader


FRAGMENTS = [
    b"\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n", b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n",
    b"Upgrade: x\r\nConnection: upgrade\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"Expect: 100-continue\r\n", b"GET /\r\n",
]  # fmt: skip


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(FRAGMENTS)), max_size=12).map(b"".join),
    st.binary(max_size=4),
)
def test_any_bytes_in_any_pieces_are_read_alike_or_refused_and_h11_sees_no_other_request(stream, steps):
    requests.check(stream, steps)


LINES = b"POST / HTTP/1.1\r\nHost: a\r\n"
REFUSED = {
    "both lengths": LINES + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "both lengths, other order": LINES + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "two lengths": LINES + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
    "the same length twice": LINES + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
    "a list of lengths": LINES + b"Content-Length: 3, 3\r\n\r\n",
    "a signed length": LINES + b"Content-Length: +3\r\n\r\n",
    "a negative length": LINES + b"Content-Length: -3\r\n\r\n",
    "an empty length": LINES + b"Content-Length:\r\n\r\n",
    "an endless length": LINES + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "another coding": LINES + b"Transfer-Encoding: gzip\r\n\r\n",
    "two codings": LINES + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked twice": LINES + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "almost chunked": LINES + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "a folded first header": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a blank before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nabc\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "a bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "a bare LF in the target": b"GET /a\nX:y HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bare LF after a header": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "a bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "a bare CR": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "a list of hosts": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "another host in the target": b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a user in the target": b"GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "another scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a proxy's method": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "RTSP": b"DESCRIBE / RTSP/1.0\r\nHost: a\r\n\r\n",
    "Icecast": b"SOURCE / ICE/1.0\r\nHost: a\r\n\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a lower-case method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an upgrade with chunks": b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("stream", REFUSED.values(), ids=REFUSED)
def test_a_head_that_servers_could_read_differently_is_refused(stream):
    with pytest.raises(BadRequest) as caught:
        read_in_pieces([stream])
    assert caught.value.status == 400
    with pytest.raises(BadRequest):
        read_in_pieces([stream[i : i + 1] for i in range(len(stream))])


@pytest.mark.parametrize("body", [
    b"g\r\n", b"-1\r\n", b"0x3\r\nabc\r\n", b" 3\r\nabc\r\n", b"3 \r\nabc\r\n", b"fffffffffffffffff\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nab\r\n0\r\n\r\n", b"\r\nabc", b"3\nabc\r\n", b"3\rabc",
    b"3\r\nabc\n0\r\n\r\n",
    b"3\r\nabc\r\n0\n\r\n", b"3\r\nabc\r\n0\r\n\n", b"3;a\nabc\r\n", b"3;\0\r\nabc\r\n",
    b"0\r\nX : y\r\n\r\n",
    b"0\r\nContent-Length: 9\r\n\r\n", b"0\r\nTransfer-Encoding: gzip\r\n\r\n",
])  # fmt: skip
def test_a_chunk_that_servers_could_read_differently_is_refused(body):
    with pytest.raises(BadRequest):
        read_in_pieces([CHUNKED_HEAD + body])


@pytest.mark.parametrize(("stream", "target"), [
    (b"GET http://A.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", b"/x?y"),
    (b"GET https://a.example:8?y HTTP/1.1\r\nHost: a.example:8\r\n\r\n", b"/?y"),
    (b"GET http://[::1]:8 HTTP/1.1\r\nHost: [::1]:8\r\n\r\n", b"/"),
    (b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", b"*"),
    (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b"/"),
])  # fmt: skip
def test_of_an_absolute_target_the_path_is_kept(stream, target):
    assert _fed(stream).next_head().target == target


@pytest.mark.parametrize(("version", "connection", "keep_alive"), [
    (b"1.1", b"", True), (b"1.1", b"Connection: close\r\n", False),
    (b"1.1", b"Connection: Keep-Alive\r\n", True),
    (b"1.1", b"Connection: x\r\nConnection: CLOSE\r\n", False), (b"1.0", b"", False),
    (b"1.0", b"Connection: Keep-Alive\r\n", True), (b"1.0", b"Connection: keep-alive, close\r\n", False),
])  # fmt: skip
def test_keep_alive_follows_version_and_connection(version, connection, keep_alive):
    head = _fed(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + connection + b"\r\n").next_head()
    assert head.keep_alive is keep_alive


def test_an_old_client_need_not_name_a_host():
    assert _fed(b"GET / HTTP/1.0\r\n\r\n").next_head().version == b"1.0"


def test_a_client_that_waits_for_100_continue_is_recognised():
    stream = LINES + b"Content-Length: 3\r\nExpect: 100-Continue\r\n\r\n"
    assert _fed(stream).next_head().expects_continue
    assert not _fed(stream.replace(b"/1.1", b"/1.0")).next_head().expects_continue


def test_an_upgrade_leaves_what_follows_to_the_next_protocol():
    stream = b"GET /mcp HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    reader = _fed(stream + b"\x81\x00")
    head = reader.next_head()
    assert head.upgrade
    assert head.raw + reader.unread() == stream + b"\x81\x00"


def test_an_upgrade_that_is_not_followed_may_have_a_body():
    reader = _fed(
        b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nhi" + GET
    )
    assert reader.next_head().upgrade
    assert [reader.next_body(), reader.next_body()] == [b"hi", b""]
    assert not reader.next_head().upgrade


def test_an_upgrade_header_alone_is_no_upgrade():
    assert not _fed(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").next_head().upgrade


def test_headers_keep_their_order_their_bytes_and_their_repetitions():
    stream = b"GET / HTTP/1.1\r\nHost: a\r\nX-A:  b\t\r\nX-A:\r\nX-B: \xff:c\r\n\r\n"
    assert _fed(stream).next_head().headers[1:] == [(b"x-a", b"b"), (b"x-a", b""), (b"x-b", b"\xff:c")]


def test_secrets_in_headers_do_not_show_in_the_repr():
    head = _fed(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\n\r\n").next_head()
    assert "s3cret" not in repr(head)


def test_a_head_is_refused_as_soon_as_it_outgrows_its_limit():
    big = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200
    with pytest.raises(TooLarge, match="head is larger than 100 bytes"):
        read_in_pieces([big], head_bytes=100)
    with pytest.raises(TooLarge, match="head"):
        read_in_pieces([big + b"\r\n\r\n"], head_bytes=100)
    with pytest.raises(TooLarge, match="head"):
        read_in_pieces([big[i : i + 1] for i in range(len(big))], head_bytes=100)


def test_a_head_of_exactly_the_limit_is_read_whatever_follows_it():
    assert len(read_in_pieces([GET + POST * 9], head_bytes=max(len(GET), len(POST)))) == 10


def test_a_body_is_refused_by_its_length_before_any_of_it_came():
    head = POST.removesuffix(b"hello")
    assert len(read_in_pieces([POST], body_bytes=5)) == 1
    with pytest.raises(TooLarge, match="body is larger than 4 bytes"):
        read_in_pieces([head], body_bytes=4)


def test_a_chunked_body_is_refused_as_soon_as_it_outgrows_its_limit():
    assert len(read_in_pieces([CHUNKED], body_bytes=9)) == 1
    reader = RequestReader(body_bytes=8)
    reader.feed(CHUNKED_HEAD + b"ffff\r\n12345678")
    reader.next_head()
    assert reader.next_body() == b"12345678"
    reader.feed(b"9")
    with pytest.raises(TooLarge, match="body"):
        reader.next_body()


@pytest.mark.parametrize("step", [1, 9, 1000])
@pytest.mark.parametrize("framing", [b"1;" + b"x" * 400, b"1\r\na\r\n0\r\nX: " + b"y" * 400 + b"\r\n\r\n"])
def test_framing_does_not_go_on_for_ever_however_it_comes(framing, step):
    pieces = [CHUNKED_HEAD, *(framing[i : i + step] for i in range(0, len(framing), step))]
    with pytest.raises(BadRequest, match="framing"):
        read_in_pieces(pieces, head_bytes=200, body_bytes=100)


def test_many_tiny_chunks_are_content_not_framing():
    body = b"1\r\nx\r\n" * 500 + b"0\r\n\r\n"
    pieces = [CHUNKED_HEAD, *(body[i : i + 3] for i in range(0, len(body), 3))]
    assert read_in_pieces(pieces, head_bytes=100) == [(b"POST", b"/c", b"x" * 500)]


def test_a_reader_is_idle_only_between_requests():
    reader = RequestReader()
    assert reader.idle
    reader.feed(POST[:10])
    assert reader.next_head() is None
    assert not reader.idle
    reader.feed(POST[10:])
    reader.next_head()
    assert not reader.idle
    assert [reader.next_body(), reader.idle, reader.next_body(), reader.idle] == [b"hello", False, b"", True]


def test_a_reader_waits_while_nothing_was_fed():
    reader = RequestReader()
    assert [reader.next_head(), reader.next_head()] == [None, None]


def test_a_head_cannot_be_asked_for_while_a_body_is_unread():
    reader = _fed(POST)
    reader.next_head()
    with pytest.raises(RuntimeError, match="body"):
        reader.next_head()
