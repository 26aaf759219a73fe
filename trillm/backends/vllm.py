"""vLLM. Source: its API server as of 0.33, by reading.

Only the routes of what the model can do exist, and its OpenAPI document lists them. Whether a model sees images is
told nowhere.
"""

from typing import Any

import msgspec
from attrs import evolve

from trillm.backends.base import PATHS, Backend, Card, Cards, Signs, Site, models, owned_by
from trillm.backends.failures import Correction
from trillm.dialects.ranking.values import Question
from trillm.models import Capability, Found, Operation


class _Version(msgspec.Struct):
    version: str


class _Routes(msgspec.Struct):
    paths: dict[str, Any]


class VLLM(Backend):
    """See the module's docstring."""

    kind = "vllm"
    title = "vLLM"
    ports = (8000,)
    ranks_media = True
    corrections = (
        Correction(400, "maximum context length", 400, "context_length_exceeded"),
        Correction(404, "NotFoundError", 404, "model_not_found"),
    )

    def recognises(self, signs: Signs) -> bool:
        """Tell by the models' owner."""
        return owned_by("vllm", signs["/v1/models"])

    async def inspect(self, site: Site) -> Found:
        """List the model and its adapters, and what the routes say they can do."""
        cards = (await site.read("/v1/models", Cards[Card])).data
        version = (await site.get("/version")).read(_Version)
        can = site.remembered(*(card.id for card in cards)) or await _capabilities(site)
        return Found(self.kind, version.version if version else None, models(cards, can))

    def ranking_request(self, question: Question, model: str) -> bytes:
        """Ask for raw scores by its own name for them."""
        if not question.raw:
            return super().ranking_request(question, model)
        options = {**question.options, "use_activation": msgspec.Raw(b"false")}
        return super().ranking_request(evolve(question, options=options, raw=False), model)


async def _capabilities(site: Site) -> frozenset[Capability]:
    """Tell from the routes; the document may be turned off, then nothing is known and everything is tried."""
    document = (await site.get("/openapi.json")).read(_Routes)
    routes = document.paths if document else {}
    return frozenset(operation.capability for operation in Operation if f"/v1{PATHS[operation]}" in routes)
