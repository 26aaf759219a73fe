"""The scores in a server's answer, of whichever shape, and what they become. Pure.

Sources as in :mod:`trillm.dialects.ranking.request`: ``results`` with ``relevance_score`` (Cohere, Jina, vLLM,
llama.cpp, infinity), ``data`` (Voyage), a bare array with ``score`` (TEI). Tokens are in ``usage``, in ``meta.tokens``,
in ``meta.billed_units`` (LiteLLM's proxy), or in a header of TEI's.
"""

import math
import operator
from collections.abc import Iterable, Sequence

import msgspec
from attrs import frozen

from trillm.dialects.members import NOT_JSON
from trillm.errors import UpstreamFailed


class _Result(msgspec.Struct):
    index: int
    relevance_score: float | None = None
    score: float | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Tokens(msgspec.Struct):
    input_tokens: float | None = None


class _Billed(msgspec.Struct):
    total_tokens: float | None = None


class _Meta(msgspec.Struct):
    tokens: _Tokens | None = None
    billed_units: _Billed | None = None


class _Answer(msgspec.Struct):
    results: list[_Result] | None = None
    data: list[_Result] | None = None
    usage: _Usage | None = None
    meta: _Meta | None = None


@frozen
class Scores:
    """What a server said.

    Args:
        values: one for each document it was sent, in that order.
        tokens: that it read, if it tells.
    """

    values: Sequence[float]
    tokens: int | None = None


_bare = msgspec.json.Decoder(list[_Result])
_whole = msgspec.json.Decoder(_Answer)


def read_scores(body: bytes, headers: Iterable[tuple[bytes, bytes]], documents: int) -> Scores:
    """Read a server's whole answer.

    Args:
        body: of its 200.
        headers: lower-case names.
        documents: how many it was sent.

    Raises:
        UpstreamFailed: it is no ranking, or not one of these documents.
    """
    try:
        if body.lstrip()[:1] == b"[":
            return Scores(_in_order(_bare.decode(body), documents), _header_tokens(headers))
        answer = _whole.decode(body)
    except NOT_JSON as exc:
        raise UpstreamFailed(f"the server's answer is no ranking: {exc}") from exc
    results = answer.results if answer.results is not None else answer.data
    if results is None:
        raise UpstreamFailed("the server's answer is no ranking: it has no results")
    return Scores(_in_order(results, documents), _tokens(answer))


def sigmoid(logit: float) -> float:
    """Return the logistic function of ``logit``, which overflows at neither end."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors of the same length; 0 if one has no direction.

    Raises:
        UpstreamFailed: they are not of the same length.
    """
    if len(one) != len(other):
        raise UpstreamFailed(f"the server gave vectors of {len(one)} and of {len(other)} dimensions")
    a, b = math.hypot(*one), math.hypot(*other)
    if not (0 < a < math.inf and 0 < b < math.inf):
        return 0.0
    product: float = sum(map(operator.mul, one, other))
    return product / a / b


def _in_order(results: list[_Result], documents: int) -> list[float]:
    values: list[float | None] = [None] * documents
    for result in results:
        if not 0 <= result.index < documents or values[result.index] is not None:
            raise UpstreamFailed(f"the server ranked a document that it was not sent, or twice (index {result.index})")
        values[result.index] = result.relevance_score if result.relevance_score is not None else result.score
    known = [value for value in values if value is not None]
    if len(known) < documents:
        raise UpstreamFailed(f"the server ranked {len(known)} of {documents} documents")
    return known


def _tokens(answer: _Answer) -> int | None:
    usage, meta = answer.usage or _Usage(), answer.meta or _Meta()
    counted = meta.tokens.input_tokens if meta.tokens else None
    billed = meta.billed_units.total_tokens if meta.billed_units else None
    known = (usage.prompt_tokens, usage.total_tokens, counted, billed)
    return next((int(tokens) for tokens in known if tokens is not None and 0 <= tokens < 2**53), None)


def _header_tokens(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    tokens = dict(headers).get(b"x-compute-tokens", b"")
    return int(tokens) if tokens.isdigit() and len(tokens) < 16 else None
