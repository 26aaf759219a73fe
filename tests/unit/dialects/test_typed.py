"""Streams of typed events: content, errors and honest endings are told apart, and nothing else is changed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.dialects.typed import MESSAGES, RESPONSES, TypedScanner, Vocabulary
from trillm.sse import Kind, Usage


def an_event(name: str, **members: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **members})}\n\n".encode()


RESPONSE_KINDS = {
    "response.created": Kind.META,
    "response.output_item.added": Kind.META,
    "response.output_text.delta": Kind.CONTENT,
    "response.reasoning_text.delta": Kind.CONTENT,
    "response.function_call_arguments.delta": Kind.CONTENT,
    "response.output_item.done": Kind.CONTENT,
    "response.completed": Kind.DONE,
    "response.incomplete": Kind.DONE,
    "response.failed": Kind.ERROR,
    "error": Kind.ERROR,
}
MESSAGE_KINDS = {
    "message_start": Kind.META,
    "ping": Kind.COMMENT,
    "content_block_start": Kind.META,
    "content_block_delta": Kind.CONTENT,
    "content_block_stop": Kind.META,
    "message_delta": Kind.FINISH,
    "message_stop": Kind.DONE,
    "error": Kind.ERROR,
}
CASES = [
    *((RESPONSES, name, kind) for name, kind in RESPONSE_KINDS.items()),
    *((MESSAGES, name, kind) for name, kind in MESSAGE_KINDS.items()),
]


@pytest.mark.parametrize(("vocabulary", "name", "kind"), CASES)
def test_each_event_says_what_it_should_and_passes_as_it_came(vocabulary: Vocabulary, name, kind):
    scanner = TypedScanner(vocabulary=vocabulary)
    sent = an_event(name)
    [frame] = scanner.feed(sent)
    assert (frame.kind, frame.raw) == (kind, sent)
    assert scanner.complete is (kind is Kind.DONE)
    assert scanner.failed is (kind is Kind.ERROR)


def test_the_type_counts_where_the_name_is_missing():
    scanner = TypedScanner(vocabulary=MESSAGES)
    [frame] = scanner.feed(b'data: {"type":"message_stop"}\n\n')
    assert frame.kind is Kind.DONE
    assert frame.raw == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_without_its_end_a_stream_is_not_complete():
    scanner = TypedScanner(vocabulary=MESSAGES)
    scanner.feed(an_event("message_delta", delta={"stop_reason": "end_turn"}))
    scanner.end()
    assert not scanner.complete


def test_nothing_follows_the_end():
    scanner = TypedScanner(vocabulary=RESPONSES)
    frames = scanner.feed(an_event("response.completed") + b"data: [DONE]\n\n" + an_event("response.created"))
    assert [frame.kind for frame in frames] == [Kind.DONE]


@pytest.mark.parametrize(
    ("vocabulary", "sent", "usage"),
    [
        (MESSAGES, an_event("message_delta", usage={"output_tokens": 4}), Usage(None, 4)),
        (MESSAGES, an_event("message_start", message={"usage": {"input_tokens": 9, "output_tokens": 0}}), Usage(9, 0)),
        (
            RESPONSES,
            an_event("response.completed", response={"usage": {"input_tokens": 1, "output_tokens": 2}}),
            Usage(1, 2),
        ),
        (RESPONSES, an_event("response.created", response={"usage": None}), None),
    ],
)
def test_tokens_are_counted(vocabulary, sent, usage):
    [frame] = TypedScanner(vocabulary=vocabulary).feed(sent)
    assert frame.usage == usage


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (an_event("error", error={"message": "m"}), {"message": "m"}),
        (an_event("error", message="m", code="c"), {"message": "m", "code": "c"}),
        (an_event("response.failed", response={"error": {"message": "m"}}), {"message": "m"}),
        (b'data: {"error":{"message":"m"}}\n\n', {"message": "m"}),
    ],
)
def test_errors_are_found_in_all_their_shapes(sent, told):
    [frame] = TypedScanner(vocabulary=RESPONSES).feed(sent)
    assert (frame.kind, frame.error) == (Kind.ERROR, told)


def test_what_is_no_json_object_is_dropped_and_counted():
    scanner = TypedScanner(vocabulary=RESPONSES)
    frames = scanner.feed(b'event: x\ndata: {\n\nevent: x\ndata: 3\n\nevent: x\ndata: {"a":"\xff"}\n\n')
    assert [(frame.kind, frame.raw) for frame in frames] == [(Kind.MALFORMED, b"")] * 3
    assert scanner.malformed == 3


def test_members_of_unknown_types_do_not_hide_an_event():
    scanner = TypedScanner(vocabulary=RESPONSES)
    [frame] = scanner.feed(an_event("response.completed", usage="many", message=[1]))
    assert frame.kind is Kind.DONE


def test_ids_comments_and_carriage_returns_do_not_reach_the_caller():
    scanner = TypedScanner(vocabulary=MESSAGES)
    frames = scanner.feed(b': hello\r\n\r\nid: 4\r\nevent: message_stop\r\ndata: {"type":"message_stop"}\r\n\r\n')
    assert [frame.raw for frame in frames] == [b": \n\n", b'event: message_stop\ndata: {"type":"message_stop"}\n\n']


@given(st.lists(st.sampled_from([an_event(name) for name in MESSAGE_KINDS if name != "error"])), st.data())
def test_pieces_of_any_size_make_the_same_frames(sent, data):
    stream = b"".join(sent)
    whole, split = TypedScanner(vocabulary=MESSAGES), TypedScanner(vocabulary=MESSAGES)
    pieces, rest = [], stream
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size])
        rest = rest[size:]
    assert [f for piece in pieces for f in split.feed(piece)] == whole.feed(stream)


@given(st.binary())
def test_no_bytes_break_it(stream):
    scanner = TypedScanner(vocabulary=RESPONSES)
    scanner.feed(stream)
    scanner.end()
