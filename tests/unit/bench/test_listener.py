"""Answers taken apart, cut anywhere, at times that the test chooses."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.bench.asks import Ask
from trillm.bench.listener import Listener
from trillm.bench.tally import Tally
from trillm.errors import UpstreamFailed
from trillm.wire.answer import LAST_CHUNK, chunk, head

PLAIN, STREAMED = Ask(b""), Ask(b"", streamed=True)
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":" fox"},"finish_reason":null}]}\n\n'
QUOTED = b'data: {"choices":[{"index":0,"delta":{"content":"\\ndata: {\\"error\\": \\"content\\": \\"x"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"out of memory","type":"server_error"}}\n\n'


def whole(body: bytes, status: int = 200) -> bytes:
    return head(status, [], length=len(body)) + body


def stream(*events: bytes) -> bytes:
    return head(200, [], length=None) + b"".join(map(chunk, events)) + LAST_CHUNK


def heard(ask: Ask, *wakes: bytes) -> Tally:
    """What is counted when ``wakes`` come, the first after one second, the others a second apart."""
    listener = Listener(Tally(counting=True))
    listener.begin(ask, 0.0)
    complete = [listener.feed(data, 1.0 + i) for i, data in enumerate(wakes)]
    assert complete == [False] * (len(wakes) - 1) + [True]
    return listener.tally


def test_a_plain_answer_has_a_first_byte_and_an_end():
    answer = whole(b'{"choices":[]}')

    tally = heard(PLAIN, answer[:20], answer[20:])

    assert (tally.requests, tally.errors.total()) == (1, 0)
    assert (list(tally.first_byte_s), list(tally.total_s)) == ([1.0], [2.0])
    assert not tally.first_token_s


def test_the_first_token_is_the_first_content_and_neither_the_head_nor_the_role():
    tally = heard(STREAMED, head(200, [], length=None), chunk(ROLE), chunk(TOKEN), chunk(FINISH + DONE) + LAST_CHUNK)

    assert list(tally.first_byte_s) == [1.0]
    assert list(tally.first_token_s) == [3.0]
    assert list(tally.gap_s) == [1.0]
    assert (tally.requests, tally.chunks, list(tally.total_s)) == (1, 4, [4.0])


@pytest.mark.parametrize("name", [b"reasoning", b"reasoning_content"])
def test_a_thought_is_content(name):
    tally = heard(STREAMED, stream(TOKEN.replace(b"content", name), FINISH, DONE))

    assert list(tally.first_token_s) == [1.0]


def test_text_that_looks_like_an_event_is_text():
    tally = heard(STREAMED, stream(ROLE, QUOTED, FINISH, DONE))

    assert (tally.requests, tally.chunks, tally.errors.total()) == (1, 4, 0)


def test_keep_alive_comments_are_no_chunks():
    assert heard(STREAMED, stream(b": ping\n\n", TOKEN, FINISH, DONE)).chunks == 3


@given(st.sets(st.integers(1, 800)))
def test_the_counts_are_the_same_wherever_the_bytes_are_cut(cuts):
    answer = stream(ROLE, TOKEN, QUOTED, TOKEN, FINISH, DONE)
    edges = [0, *sorted(cut for cut in cuts if cut < len(answer)), len(answer)]

    tally = heard(STREAMED, *(answer[a:b] for a, b in pairwise(edges)))

    assert (tally.requests, tally.chunks, tally.errors.total()) == (1, 6, 0)
    assert len(tally.first_token_s) == 1


@given(st.integers(1, len(stream(TOKEN, ERROR, DONE)) - 1))
def test_an_error_event_is_noticed_wherever_it_is_cut(cut):
    answer = stream(TOKEN, ERROR, DONE)

    assert heard(STREAMED, answer[:cut], answer[cut:]).errors == {"error event in a stream": 1}


@pytest.mark.parametrize(
    ("ask", "answer", "error"),
    [
        (STREAMED, stream(TOKEN), "stream that ended without [DONE]"),
        (STREAMED, stream(b"event: error\ndata: {}\n\n"), "error event in a stream"),
        (PLAIN, whole(b'{"error":{"message":"?","code":"model_not_found"}}', 404), "status 404 model_not_found"),
        (STREAMED, whole(b"busy", 503), "status 503"),
    ],
)
def test_what_is_wrong_is_counted_by_what_it_is_and_is_no_request(ask, answer, error):
    tally = heard(ask, answer)

    assert (tally.requests, dict(tally.errors), len(tally.total_s)) == (0, {error: 1}, 0)


def test_a_connection_that_ends_in_the_middle_is_an_error_of_the_connection():
    listener = Listener(Tally(counting=True))
    listener.begin(PLAIN, 0.0)
    listener.feed(whole(b"{}")[:-1], 1.0)

    with pytest.raises(UpstreamFailed, match="in the middle"):
        listener.feed(b"", 2.0)


def test_nothing_is_counted_before_and_after_the_time():
    listener = Listener(Tally())
    for answer in (whole(b"{}"), whole(b"no", 500)):
        listener.begin(PLAIN, 0.0)
        listener.feed(answer, 1.0)
    listener.begin(STREAMED, 0.0)
    listener.feed(stream(TOKEN, TOKEN, DONE), 1.0)

    tally = listener.tally
    assert (tally.ended, tally.chunks, len(tally.first_byte_s), len(tally.first_token_s)) == (0, 0, 0, 0)


def test_a_connection_is_of_further_use_when_the_server_keeps_it_open():
    listener = Listener(Tally())
    listener.begin(PLAIN, 0.0)
    assert not listener.reusable
    listener.feed(whole(b"{}"), 1.0)
    assert listener.reusable
    listener.begin(PLAIN, 0.0)
    listener.feed(head(200, [(b"connection", b"close")], length=0), 1.0)
    assert not listener.reusable
