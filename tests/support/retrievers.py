"""Servers in memory that rank and embed, each in the shape of its kind: what they say depends on the texts alone."""

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

from support.servers import ok

JSON = b"content-type: application/json\r\n"


def asked(request: bytes) -> Any:
    """The JSON of a request."""
    return json.loads(request.partition(b"\r\n\r\n")[2])


def path(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode()


def _said(answer: Any, *headers: bytes) -> bytes:
    return ok(json.dumps(answer).encode(), JSON, *headers)


def score(document: str) -> float:
    """A document is as good as the number that it ends in; one without is 0."""
    return float(document.rpartition(" ")[2] or 0)


def ranks(request: bytes) -> bytes:
    """Cohere's, Jina's, llama.cpp's way, best first; five tokens a document."""
    documents = asked(request)["documents"]
    results = [{"index": i, "relevance_score": score(text)} for i, text in enumerate(documents)]
    results.sort(key=lambda result: -result["relevance_score"])
    tokens = 5 * len(documents)
    return _said({"results": results, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


def ranks_as_tei(request: bytes) -> bytes:
    """TEI's way: a bare array, the tokens in a header."""
    texts = asked(request)["texts"]
    scores = sorted(({"index": i, "score": score(text)} for i, text in enumerate(texts)), key=lambda s: -s["score"])
    return _said(scores, b"x-compute-tokens: %d\r\n" % (5 * len(texts)))


def vector(text: str) -> list[float]:
    """A direction in a plane: east, west, north; anything else is between east and north."""
    return {"east": [1.0, 0.0], "west": [-1.0, 0.0], "north": [0.0, 1.0]}.get(text, [1.0, 1.0])


def embeds(request: bytes) -> bytes:
    """OpenAI's way, last first, in the encoding that was asked for."""
    body = asked(request)
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    code = as_base64 if body.get("encoding_format") == "base64" else list
    data = [{"object": "embedding", "index": i, "embedding": code(vector(t))} for i, t in enumerate(texts)]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return _said({"object": "list", "data": data[::-1], "model": "own", "usage": usage})


def embeds_floats(request: bytes) -> bytes:
    """The same by a server that knows no base64."""
    body = asked(request)
    assert "encoding_format" not in body
    return embeds(request)


def as_base64(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def by_path(**answers: Callable[[bytes], bytes] | bytes) -> Callable[[bytes], bytes]:
    """A server that answers by the last word of the path."""

    def answer(request: bytes) -> bytes:
        found = answers[path(request).rpartition("/")[2]]
        return found(request) if callable(found) else found

    return answer
