"""What came of a ranking, in the dialect of who asked. Pure.

One body is good for Cohere's, Jina's, vLLM's, llama.cpp's and infinity's clients, since each reads only its own members
of it. Sources as in :mod:`trillm.dialects.ranking.request`.
"""

from typing import Any

import msgspec

from trillm.dialects.ranking.values import Dialect, Ranked, Ranking

#: What Cohere counts as one unit: a query with up to so many documents.
_DOCUMENTS_PER_UNIT = 100


def write_ranking(ranking: Ranking, ranked: Ranked, *, ident: str, created: int) -> bytes:
    """Return the answer's body.

    Args:
        ranking: what was asked.
        ranked: what came of it.
        ident: the request's id.
        created: seconds since 1970.
    """
    best = ranked.order[: ranking.top_n]
    if ranking.dialect is Dialect.TEI:
        return msgspec.json.encode([_score(ranking, ranked, place) for place in best])
    tokens = ranked.tokens or 0
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    head = {"id": ident, "object": "list", "model": ranked.model}
    if ranking.dialect is Dialect.SCORE:
        data = [{"index": i, "object": "score", "score": score} for i, score in enumerate(ranked.scores)]
        return msgspec.json.encode(head | {"created": created, "data": data, "usage": usage})
    results = [_result(ranking, ranked, place) for place in best]
    answer = head | {"results": results, "meta": _meta(ranking, ranked), "usage": usage}
    if ranking.dialect is Dialect.VOYAGE:
        answer["data"] = results
    return msgspec.json.encode(answer)


def _result(ranking: Ranking, ranked: Ranked, place: int) -> dict[str, Any]:
    result: dict[str, Any] = {"index": place, "relevance_score": ranked.scores[place]}
    if ranking.wants_documents:
        result["document"] = _document(ranking, place)
    return result


def _document(ranking: Ranking, place: int) -> object:
    if ranking.dialect is Dialect.VOYAGE:
        return ranking.texts[place]
    original = ranking.originals[place]
    return {"text": original} if isinstance(original, str) else original


def _score(ranking: Ranking, ranked: Ranked, place: int) -> dict[str, Any]:
    score: dict[str, Any] = {"index": place, "score": ranked.scores[place]}
    return score | {"text": ranking.texts[place]} if ranking.wants_documents else score


def _meta(ranking: Ranking, ranked: Ranked) -> dict[str, Any]:
    units = -(-len(ranking.texts) // _DOCUMENTS_PER_UNIT)
    meta: dict[str, Any] = {"api_version": {"version": "2"}, "billed_units": {"search_units": units}}
    if ranked.tokens is not None:
        meta["tokens"] = {"input_tokens": ranked.tokens}
    if ranked.warnings:
        meta["warnings"] = ranked.warnings
    return meta
