"""Hugging Face's text-embeddings-inference. Source: its router as of 1.9, by reading.

One model, which is told by /info alone. Ranking has a path and a shape of its own: ``texts`` in, a bare array of
scores out, the tokens in headers.
"""

from typing import Any

import msgspec

from trillm.backends.base import Backend, Signs, Site, capabilities
from trillm.dialects.ranking.values import Question
from trillm.models import Capability, Found, Model, Operation

_MEANINGS = {"embedding": Capability.EMBEDDINGS, "reranker": Capability.RERANK}


class _Info(msgspec.Struct):
    model_id: str
    model_type: dict[str, Any]
    version: str | None = None
    served_model_name: str | None = None
    max_input_length: int | None = None
    max_client_batch_size: int | None = None


class TEI(Backend):
    """See the module's docstring."""

    kind = "tei"
    title = "text-embeddings-inference"
    ports = (3000, 8080)
    signs = ("/info",)
    gauges = ("te_queue_size",)

    def recognises(self, signs: Signs) -> bool:
        """Tell by what it says of itself."""
        return signs["/info"].read(_Info) is not None

    async def inspect(self, site: Site) -> Found:
        """Read what it says of itself; a classifier offers nothing that trillm has a use for."""
        info = await site.read("/info", _Info)
        can = capabilities(info.model_type, _MEANINGS)
        model = Model(info.served_model_name or info.model_id, can, info.max_input_length)
        return Found(self.kind, info.version, (model,) if can else (), max_batch=info.max_client_batch_size)

    def endpoint(self, url: str, operation: Operation) -> str:
        """Ranking is not under ``/v1``."""
        return self.root(url) + "/rerank" if operation is Operation.RERANK else super().endpoint(url, operation)

    def ranking_request(self, question: Question, model: str) -> bytes:  # noqa: ARG002  # it has one model
        """Ask in its own shape; ``truncation`` is Voyage's name for its ``truncate``."""
        own: dict[str, Any] = dict(question.options)
        if "truncation" in own:
            own.setdefault("truncate", own.pop("truncation"))
        raw = {"raw_scores": True} if question.raw else {}
        return msgspec.json.encode({**own, **raw, "query": question.query, "texts": list(question.documents)})
