"""The bytes of an answer."""

import pytest

from trillm.wire import answer


def test_a_head_says_how_long_the_body_is():
    head = answer.head(200, [(b"content-type", b"text/plain")], length=3)
    assert head == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\n"


def test_a_head_without_a_length_announces_chunks():
    assert answer.head(502, [], length=None) == b"HTTP/1.1 502 Bad Gateway\r\ntransfer-encoding: chunked\r\n\r\n"


def test_a_status_nobody_knows_has_no_phrase():
    assert answer.head(529, [], length=0).startswith(b"HTTP/1.1 529 \r\n")


def test_a_chunk_is_framed_by_its_length_in_hex():
    assert answer.chunk(b"x" * 26) + answer.LAST_CHUNK == b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("header", [(b"a", b"b\r\nset-cookie: x"), (b"a\nb", b"c"), (b"a", b"b\rc")])
def test_a_header_cannot_smuggle_another(header):
    with pytest.raises(ValueError, match="line break"):
        answer.head(200, [header], length=0)
