"""What goes over the line between a parent and a worker, whole, cut, and broken."""

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.workers import messages
from trillm.workers.messages import (
    Ask,
    Broken,
    Failed,
    Last,
    Moved,
    Reader,
    Ready,
    Share,
    Start,
    Stop,
    Sum,
    Tell,
    Told,
    Use,
    encoded,
)

ALL = [
    Start(3, b"settings", "token", "http://127.0.0.1:1", [(2, ["127.0.0.1", 80]), (10, ["::1", 80, 0, 0])], [7, 8]),
    Moved("http://127.0.0.1:2"),
    Share("gpu http://gpu", 4, 7, 0.05, 12),
    Share("gpu http://gpu", 4, 7, math.inf, 0),
    Tell(1, "metrics"),
    Sum(1, [b"one", b"", b"\xff" * 70_000]),
    Stop(at_once=True),
    Ready("trillm serves at …"),
    Failed("no"),
    Use("gpu http://gpu", 4, None, 7, 7),
    Use("gpu http://gpu", 4, 2, 9, 7),
    Ask(1, "status", b"own"),
    Told(1, b"part"),
    Last(b"part"),
]


@given(st.lists(st.integers(1, 100_000), max_size=40))
def test_messages_arrive_as_they_were_however_they_are_cut(cuts):
    line = b"".join(map(encoded, ALL))
    reader, heard, at = Reader(), [], 0
    for cut in [*cuts, len(line)]:
        heard += reader.feed(line[at : at + cut])
        at += cut
    heard += reader.feed(line[at:])
    assert heard == ALL


@given(st.binary(max_size=200))
def test_what_is_no_message_breaks_the_line_and_nothing_else(data):
    with suppress(Broken):
        list(Reader().feed(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x04nope",
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        (len(body := b"\x92\xa4Stop\xa3yes")).to_bytes(4, "big") + body,
    ],
)
def test_nonsense_is_told_from_a_message(data):
    with pytest.raises(Broken):
        list(Reader().feed(data))


def test_a_message_that_nobody_would_take_is_not_sent(monkeypatch):
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 1000)
    with pytest.raises(Broken, match="Last of"):
        encoded(Last(b"x" * 1000))
