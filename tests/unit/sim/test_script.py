"""Scripts: what goes out when, and what each fault makes of it."""

import math
import random

import pytest

from trillm.sim.faults import Fault
from trillm.sim.script import FATAL, Answer, Stream, play
from trillm.sim.settings import Cue
from trillm.wire.answer import LAST_CHUNK

STREAM = Answer(stream=Stream(b"data: open\n\n", [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"], b"data: end\n\n"))
BODY = Answer(b'{"a":"0123456789"}', tokens=4)


def acts(answer, fault=None, **cue):
    return list(play(answer, Cue(random.Random(0), fault=fault, **cue)))


def events(played):
    """Return the data of the frames that a script sends."""
    sent = b"".join(data for _, data in played).partition(b"\r\n\r\n")[2]
    return [line[6:] for line in sent.split(b"\n") if line.startswith(b"data: ")]


def pauses(played):
    return [pause for pause, _ in played]


def test_a_stream_is_sent_token_by_token_at_its_pace():
    played = acts(STREAM, ttft_s=2, itl_s=0.5)
    assert events(played) == [b"open", b"1", b"2", b"3", b"end", b"[DONE]"]
    assert pauses(played) == [2, 0, 0.5, 0.5, 0]
    assert played[-1][1].endswith(LAST_CHUNK)
    assert b"transfer-encoding: chunked" in played[0][1]
    assert b"text/event-stream" in played[0][1]


def test_a_whole_answer_takes_as_long_as_its_tokens():
    [(pause, data)] = acts(BODY, ttft_s=2, itl_s=0.5)
    assert pause == 3.5
    assert data.endswith(b"content-length: 18\r\n\r\n" + BODY.body)


@pytest.mark.parametrize("answer", [STREAM, BODY], ids=["stream", "body"])
def test_faults_before_the_answer(answer):
    assert acts(answer, Fault.REFUSE) == []
    assert acts(answer, Fault.SILENT) == [(math.inf, b"")]
    for fault, status in [(Fault.BUSY, b"429"), (Fault.BROKEN, b"500"), (Fault.UNAVAILABLE, b"503")]:
        [(pause, data)] = acts(answer, fault, seconds=1.2, ttft_s=9)
        assert pause == 0
        assert data.startswith(b"HTTP/1.1 " + status)
        assert (b"\r\nretry-after: 2\r\n" in data) is (fault is Fault.BUSY)
        assert b'{"error":{"message":' in data
    [(_, page)] = acts(answer, Fault.GARBAGE)
    assert page.startswith(b"HTTP/1.1 200")
    assert b"text/html" in page


def test_a_server_that_is_busy_for_ever_says_for_a_day():
    [(_, data)] = acts(BODY, Fault.BUSY, seconds=math.inf)
    assert b"\r\nretry-after: 86400\r\n" in data


@pytest.mark.parametrize(("fault", "after", "expected", "clean"), [
    (Fault.CUT, 2, [b"open", b"1", b"2"], False),
    (Fault.CUT, 0, [b"open"], False),
    (Fault.CUT, None, [b"open", b"1"], False),
    (Fault.CUT, 99, [b"open", b"1", b"2", b"3"], False),
    (Fault.EOF, 2, [b"open", b"1", b"2"], True),
    (Fault.NODONE, None, [b"open", b"1", b"2", b"3", b"end"], True),
])  # fmt: skip
def test_streams_that_do_not_end_as_they_should(fault, after, expected, clean):
    played = acts(STREAM, fault, after=after)
    assert events(played) == expected
    assert played[-1][1].endswith(LAST_CHUNK) is clean
    assert (fault in FATAL) is not clean


def test_a_stalled_stream_goes_on_when_its_time_is_over():
    played = acts(STREAM, Fault.STALL, seconds=7, after=1, itl_s=1)
    assert pauses(played) == [0, 0, 7, 1, 1, 0]
    assert events(played) == [b"open", b"1", b"2", b"3", b"end", b"[DONE]"]


def test_an_error_frame_ends_a_stream():
    played = acts(STREAM, Fault.ERROR, after=1)
    assert events(played)[:2] == [b"open", b"1"]
    assert events(played)[2].startswith(b'{"error":{')
    assert len(events(played)) == 3
    assert played[-1][1].endswith(LAST_CHUNK)


def test_after_a_malformed_frame_a_stream_goes_on():
    sent = events(acts(STREAM, Fault.MALFORMED, after=1))
    assert [sent[0], sent[1], *sent[3:]] == [b"open", b"1", b"2", b"3", b"end", b"[DONE]"]
    assert sent[2].startswith(b'{"id"')
    assert not sent[2].endswith(b"}")


def test_a_slow_stream_shows_its_head_at_once_and_its_first_token_late():
    played = acts(STREAM, Fault.SLOW, seconds=8, ttft_s=1, itl_s=0.5)
    assert pauses(played) == [0, 8, 0.5, 0.5, 0]


def test_a_slow_body_comes_late():
    assert pauses(acts(BODY, Fault.SLOW, seconds=8, ttft_s=1)) == [8]


@pytest.mark.parametrize(("fault", "body"), [
    (Fault.MALFORMED, b'{"a":"012'), (Fault.EOF, b""), (Fault.NODONE, BODY.body),
])  # fmt: skip
def test_bodies_that_are_complete_and_wrong(fault, body):
    [(_, data)] = acts(BODY, fault)
    head, _, sent = data.partition(b"\r\n\r\n")
    assert sent == body
    assert b"content-length: %d" % len(body) in head


def test_a_body_with_an_error_in_it_has_status_200():
    [(_, data)] = acts(BODY, Fault.ERROR)
    assert data.startswith(b"HTTP/1.1 200")
    assert b'{"error":{' in data


def test_a_cut_body_is_shorter_than_announced():
    [(_, data)] = acts(BODY, Fault.CUT)
    assert data.endswith(b"content-length: 18\r\n\r\n" + BODY.body[:9])


def test_a_stalled_body_comes_in_two_halves():
    played = acts(BODY, Fault.STALL, seconds=5)
    assert pauses(played) == [0, 5]
    assert played[1][1] == BODY.body[9:]


def test_in_one_piece_a_stream_has_all_its_frames():
    answer = STREAM.in_one_piece()
    assert answer.stream is None
    assert answer.tokens == 3
    assert answer.content_type == b"text/event-stream"
    assert answer.body == b"".join(b"data: %b\n\n" % event for event in events(acts(STREAM)))
    assert BODY.in_one_piece() is BODY


def test_a_bodiless_answer_still_tells_its_length():
    assert Answer(b"abc", bodiless=True).whole().endswith(b"content-length: 3\r\n\r\n")
