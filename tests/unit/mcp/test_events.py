"""Server-sent events: the same ones whatever pieces they come in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import UpstreamFailed
from trillm.mcp.events import Event, Events


def read(*pieces, max_bytes=1000):
    events = Events(max_bytes)
    return [event for piece in pieces for event in events.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: {}\n\n", [Event(b"{}")]),
        (b"data:{}\r\n\r\n", [Event(b"{}")]),
        (b"data: 1\r\rdata: 2\r\r", [Event(b"1"), Event(b"2")]),
        (b"event: message\nid: 7\nretry: 250\ndata: a\ndata:  b\n\n", [Event(b"a\n b", "7", 0.25)]),
        (b"id: 7\ndata:\n\n", [Event(b"", "7")]),
        (b": nothing\n\ndata: 1\n\n", [Event(), Event(b"1")]),
        (b"id: a\0b\nretry: soon\ndata: 1\n\n", [Event(b"1")]),
        (b"data: 1\n\ndata: 2", [Event(b"1")]),
        (b"data: 1\n\n\n\ndata: 2\n\n", [Event(b"1"), Event(), Event(b"2")]),
    ],
)
def test_a_stream_is_split_into_events(stream, events):
    assert read(stream) == events


@given(
    st.lists(st.sampled_from([b"data: x", b"id: 1", b"\n", b"\r", b"\r\n", b":", b"retry: 5", b"data:y"]), max_size=40),
    st.integers(1, 7),
)
def test_the_pieces_it_comes_in_make_no_difference(parts, size):
    stream = b"".join(parts)
    assert read(*(stream[i : i + size] for i in range(0, len(stream), size))) == read(stream)


def test_an_event_without_an_end_is_not_kept_for_ever():
    with pytest.raises(UpstreamFailed, match="more than 10 bytes"):
        read(b"data: 12345", b"67890", max_bytes=10)
    assert read(b"data: 1\n\n" * 10, max_bytes=10) == [Event(b"1")] * 10
