"""Hugging Face's text-embeddings-inference. Source: its router as of 1.9, by reading.

One model, which is told by /info alone. Ranking has a path and a shape of its own: ``texts`` in, a bare array of
scores out, the tokens in headers; no ``top_n``, which is applied here.
"""

from typing import Annotated, Any

import msgspec

from trillm.backends.base import Backend, Signs, Site, capabilities, fields_of
from trillm.backends.failures import Headers
from trillm.errors import BadRequest, UpstreamFailed
from trillm.models import Capability, Found, Model, Operation
from trillm.wire.control import NOT_JSON

_MEANINGS = {"embedding": Capability.EMBEDDINGS, "reranker": Capability.RERANK}
# Fields of Cohere's request that it has no use for.
_COHERES = {"documents", "model", "top_n", "return_documents"}


class _Info(msgspec.Struct):
    model_id: str
    model_type: dict[str, Any]
    version: str | None = None
    served_model_name: str | None = None
    max_input_length: int | None = None


class _Document(msgspec.Struct):
    text: str


class _Ask(msgspec.Struct):
    """A ranking as Cohere's and Jina's clients ask for it."""

    query: str
    documents: list[str | _Document]
    model: str = ""
    top_n: Annotated[int, msgspec.Meta(ge=0)] | None = None
    return_documents: bool | None = None

    @property
    def texts(self) -> list[str]:
        return [document if isinstance(document, str) else document.text for document in self.documents]


class _Score(msgspec.Struct):
    index: int
    score: float


class TEI(Backend):
    """See the module's docstring."""

    kind = "tei"
    title = "text-embeddings-inference"
    ports = (3000, 8080)
    signs = ("/info",)

    def recognises(self, signs: Signs) -> bool:
        """Tell by what it says of itself."""
        return signs["/info"].read(_Info) is not None

    async def inspect(self, site: Site) -> Found:
        """Read what it says of itself; a classifier offers nothing that trillm has a use for."""
        info = await site.read("/info", _Info)
        can = capabilities(info.model_type, _MEANINGS)
        model = Model(info.served_model_name or info.model_id, can, info.max_input_length)
        return Found(self.kind, info.version, (model,) if can else ())

    def endpoint(self, url: str, operation: Operation) -> str:
        """Ranking is not under ``/v1``."""
        return self.root(url) + "/rerank" if operation is Operation.RERANK else super().endpoint(url, operation)

    def request_body(self, operation: Operation, body: bytes, model: str) -> bytes:  # noqa: ARG002  # an override
        """Translate a ranking; the rest is OpenAI's."""
        if operation is not Operation.RERANK:
            return body
        fields = fields_of(body)
        texts = _ask(body).texts
        own = {name: value for name, value in fields.items() if name not in _COHERES}
        return msgspec.json.encode(own | {"texts": texts})

    def reply_body(self, operation: Operation, request_body: bytes, body: bytes, headers: Headers = ()) -> bytes:
        """Translate a ranking back: best first, ``top_n`` of them, with their documents if they were asked for."""
        if operation is not Operation.RERANK:
            return body
        ask, scores = _ask(request_body), _scores(body)
        texts = ask.texts if ask.return_documents else None
        best = sorted(scores, key=lambda score: (-score.score, score.index))
        results = [_result(score, texts) for score in best[: ask.top_n or None]]
        return msgspec.json.encode({"object": "list", "model": ask.model, "results": results} | _usage(headers))


def _ask(body: bytes) -> _Ask:
    try:
        return msgspec.json.decode(body, type=_Ask)
    except NOT_JSON as exc:
        raise BadRequest(f"This is not a ranking request: {exc}") from exc


def _scores(body: bytes) -> list[_Score]:
    try:
        return msgspec.json.decode(body, type=list[_Score])
    except NOT_JSON as exc:
        raise UpstreamFailed(f"{TEI.title} answered what is no ranking: {exc}") from exc


def _result(score: _Score, texts: list[str] | None) -> dict[str, Any]:
    result: dict[str, Any] = {"index": score.index, "relevance_score": score.score}
    if texts is None:
        return result
    if not 0 <= score.index < len(texts):
        raise UpstreamFailed(f"{TEI.title} ranked a document that it was not sent (index {score.index})")
    return result | {"document": {"text": texts[score.index]}}


def _usage(headers: Headers) -> dict[str, Any]:
    tokens = dict(headers).get(b"x-compute-tokens", b"")
    return {"usage": {"prompt_tokens": int(tokens), "total_tokens": int(tokens)}} if tokens.isdigit() else {}
