"""The simulator's embeddings and ranking: OpenAI's shape, and the common ground of Cohere's and Jina's. No I/O."""

import base64
import struct
import uuid
from typing import Annotated, Any, Literal

import msgspec

from trillm import lexical
from trillm.sim.chat import texts_only
from trillm.sim.script import Answer
from trillm.sim.settings import Direction

_encode = msgspec.json.encode


class EmbeddingsRequest(msgspec.Struct):
    """The members of an embeddings request that are looked at."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    x_sim: Direction | None = None


class _Document(msgspec.Struct):
    text: str


class RerankRequest(msgspec.Struct):
    """The members of a ranking request that are looked at."""

    query: str
    documents: Annotated[list[str | _Document], msgspec.Meta(min_length=1)]
    model: str = "sim-rerank"
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool | None = None
    x_sim: Direction | None = None


def answer_embeddings(request: EmbeddingsRequest) -> Answer:
    """Embed one text or several.

    Raises:
        BadRequest: the input is made of token ids, or empty.
    """
    texts = texts_only(request.input, "input")
    code = _base64 if request.encoding_format == "base64" else _rounded
    dimensions = request.dimensions or lexical.DIMENSIONS
    data = [
        {"object": "embedding", "index": i, "embedding": code(lexical.embed(text, dimensions))}
        for i, text in enumerate(texts)
    ]
    reply = {"object": "list", "data": data, "model": request.model, "usage": _usage(texts)}
    return Answer(_encode(reply), direction=request.x_sim or Direction())


def answer_rerank(request: RerankRequest) -> Answer:
    """Rank documents, the most relevant first."""
    texts = [document if isinstance(document, str) else document.text for document in request.documents]
    ranked = lexical.rank(request.query, texts)[: request.top_n]
    usage = _usage([request.query, *texts])
    reply = {
        "id": f"rerank-sim{uuid.uuid4().hex[:20]}",
        "object": "list",
        "model": request.model,
        "results": [_result(i, score, texts[i] if request.return_documents else None) for i, score in ranked],
        "usage": usage,
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": usage["total_tokens"]},
        },
    }
    return Answer(_encode(reply), direction=request.x_sim or Direction())


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _rounded(vector: list[float]) -> list[float]:
    return [round(value, 7) for value in vector]


def _result(index: int, score: float, text: str | None) -> dict[str, Any]:
    result: dict[str, Any] = {"index": index, "relevance_score": round(score, 6)}
    return result if text is None else result | {"document": {"text": text}}


def _usage(texts: list[str]) -> dict[str, int]:
    tokens = sum(len(lexical.words(text)) for text in texts)
    return {"prompt_tokens": tokens, "total_tokens": tokens}
