"""What the load generator asks: where, and the bytes of each request, built once per run. No I/O."""

import enum
import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from attrs import field, frozen

from trillm.wire.exchange import Endpoint, build_request
from trillm.wire.net import Origin

#: Asked of every chat, so that a real model does not talk for minutes.
MAX_TOKENS = 64

_VERSION = re.compile(r"/v\d\w*(/|$)")
_TEXT = "The quick brown fox jumps over the lazy dog while the band plays on. "


class Kind(enum.StrEnum):
    """What is asked."""

    PLAIN = "plain"
    STREAM = "stream"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    MIXED = "mixed"


@frozen
class Target:
    """Whom to ask.

    Args:
        url: http(s); ``/v1`` is appended unless its path has a version.
        model: the name to ask for.
        api_key: sent as a bearer token.
        headers: sent as well.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(factory=dict, repr=False)

    @property
    def origin(self) -> Origin:
        """Where the connections go."""
        return Origin.of(self.url)

    @property
    def base(self) -> str:
        """What every path starts with."""
        path = urlsplit(self.url).path.rstrip("/")
        return path if _VERSION.search(path) else path + "/v1"


@frozen
class Ask:
    """One request.

    Args:
        raw: head and body.
        streamed: whether the answer is to come as events.
    """

    raw: bytes = field(repr=False)
    streamed: bool = False

    @classmethod
    def build(cls, target: Target, path: str, fields: Mapping[str, Any]) -> Self:
        """Build a POST of JSON ``fields`` and the model's name."""
        headers = [(name.encode(), value.encode()) for name, value in target.headers.items()]
        if target.api_key:
            headers.append((b"authorization", b"Bearer " + target.api_key.encode()))
        body = msgspec.json.encode({"model": target.model, **fields})
        request = build_request(Endpoint(target.origin, target.base + path), headers, body)
        return cls(request.head + request.body, streamed=bool(fields.get("stream")))


def build_asks(target: Target, kind: Kind) -> tuple[Ask, ...]:
    """Return what every connection asks, in turn: one request, or one of each kind for ``MIXED``."""
    kinds = [each for each in Kind if each is not Kind.MIXED] if kind is Kind.MIXED else [kind]
    return tuple(Ask.build(target, *_WORDING[each]) for each in kinds)


# A chat of 0.7 KB, about what an application sends that brings its instructions along.
_CHAT = {
    "messages": [{"role": "system", "content": _TEXT * 6}, {"role": "user", "content": _TEXT}],
    "max_tokens": MAX_TOKENS,
}
_WORDING: Mapping[Kind, tuple[str, Mapping[str, Any]]] = {
    Kind.PLAIN: ("/chat/completions", _CHAT),
    Kind.STREAM: ("/chat/completions", {**_CHAT, "stream": True}),
    Kind.EMBEDDINGS: ("/embeddings", {"input": [_TEXT] * 4}),
    Kind.RERANK: ("/rerank", {"query": "Who jumps over the dog?", "documents": [_TEXT, "Nobody.", _TEXT * 2]}),
}
