"""What is asked, as a server reads it."""

import msgspec
import pytest

from trillm.bench.asks import Ask, Kind, Target, build_asks
from trillm.wire.request import RequestReader


def read(ask: Ask):
    reader = RequestReader()
    reader.feed(ask.raw)
    head = reader.next_head()
    assert head is not None
    body = b"".join(iter(reader.next_body, b""))
    assert reader.next_head() is None, "one request, and nothing after it"
    return head, msgspec.json.decode(body)


def test_every_request_is_a_whole_one_that_names_the_model():
    for ask in build_asks(Target("http://127.0.0.1:8377", "tiny"), Kind.MIXED):
        head, body = read(ask)
        assert head.method == b"POST"
        assert body["model"] == "tiny"


@pytest.mark.parametrize(
    ("kind", "path", "streamed"),
    [
        (Kind.PLAIN, b"/v1/chat/completions", False),
        (Kind.STREAM, b"/v1/chat/completions", True),
        (Kind.EMBEDDINGS, b"/v1/embeddings", False),
        (Kind.RERANK, b"/v1/rerank", False),
    ],
)
def test_each_kind_has_its_path_and_only_a_stream_is_streamed(kind, path, streamed):
    (ask,) = build_asks(Target("http://127.0.0.1:8377", "tiny"), kind)

    head, body = read(ask)

    assert head.path == path
    assert (ask.streamed, body.get("stream", False)) == (streamed, streamed)


def test_mixed_is_one_of_each():
    asks = build_asks(Target("http://127.0.0.1:8377", "tiny"), Kind.MIXED)

    assert len({(read(ask)[0].path, ask.streamed) for ask in asks}) == len(asks) == 4


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8377", "/v1"),
        ("http://127.0.0.1:8377/", "/v1"),
        ("http://127.0.0.1:8377/v1", "/v1"),
        ("https://cloud.example/api/paas/v4/", "/api/paas/v4"),
        ("https://cloud.example/llm", "/llm/v1"),
    ],
)
def test_the_version_is_appended_unless_the_address_has_one(url, base):
    assert Target(url, "tiny").base == base


def test_a_chat_is_as_large_as_an_applications():
    (ask,) = build_asks(Target("http://127.0.0.1:8377", "tiny"), Kind.PLAIN)

    assert 600 < len(ask.raw) < 900


def test_the_key_is_sent_and_never_shown():
    target = Target("http://127.0.0.1:8377", "tiny", api_key="tl-secret")
    (ask,) = build_asks(target, Kind.PLAIN)

    assert b"authorization: Bearer tl-secret\r\n" in ask.raw
    assert "secret" not in repr(target) + repr(ask)


def test_headers_of_the_target_are_sent_with_every_request():
    target = Target("http://127.0.0.1:8377", "tiny", "sk", {"x-tenant": "a"})
    for ask in build_asks(target, Kind.MIXED):
        head, _ = read(ask)
        assert (head.get(b"x-tenant"), head.get(b"authorization")) == (b"a", b"Bearer sk")
