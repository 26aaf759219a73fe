"""vLLM. Source: its API server as of 0.33, by reading.

Only the routes of what the model can do exist, and its OpenAPI document lists them. Whether a model sees images is
told nowhere. A response's tokens are counted by /tokenize, which takes a conversation.
"""

from typing import Any

import msgspec
from attrs import evolve

from trillm.backends.base import PATHS, Backend, Card, Cards, Signs, Site, models, owned_by
from trillm.backends.failures import Correction
from trillm.dialects.dialect import DIALECTS
from trillm.dialects.ranking.values import Question
from trillm.dialects.responses.request import to_chat
from trillm.errors import UpstreamFailed
from trillm.models import Found, Operation
from trillm.wire.control import NOT_JSON

_TOKENIZE = "/tokenize"
_DIALECTS = frozenset(DIALECTS)


class _Version(msgspec.Struct):
    version: str


class _Routes(msgspec.Struct):
    paths: dict[str, Any]


class _Tokenized(msgspec.Struct):
    count: int


class VLLM(Backend):
    """See the module's docstring."""

    kind = "vllm"
    title = "vLLM"
    ports = (8000,)
    gauges = ("vllm:num_requests_running", "vllm:num_requests_waiting")
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
        number = version.version if version else None
        can = site.remembered(*(card.id for card in cards))
        if can and site.known is not None and site.known.version == number:
            return Found(self.kind, number, models(cards, can), speaks=site.known.speaks)
        has = await _operations(site)
        can = frozenset(operation.capability for operation in has)
        return Found(self.kind, number, models(cards, can), speaks=has & _DIALECTS)

    def endpoint(self, url: str, operation: Operation) -> str:
        """Counting a response's tokens has a path of its own."""
        return (
            self.root(url) + _TOKENIZE if operation is Operation.RESPONSE_TOKENS else super().endpoint(url, operation)
        )

    def request_body(self, operation: Operation, body: bytes, model: str) -> bytes:
        """Give a response that is to be counted as a conversation; the rest is OpenAI's."""
        return to_chat(body, model) if operation is Operation.RESPONSE_TOKENS else body

    def reply_body(self, operation: Operation, body: bytes) -> bytes:
        """Return the count of tokens under OpenAI's name."""
        if operation is not Operation.RESPONSE_TOKENS:
            return super().reply_body(operation, body)
        return msgspec.json.encode({"object": "response.input_tokens", "input_tokens": _count(body)})

    def ranking_request(self, question: Question, model: str) -> bytes:
        """Ask for raw scores by its own name for them."""
        if not question.raw:
            return super().ranking_request(question, model)
        options = {**question.options, "use_activation": msgspec.Raw(b"false")}
        return super().ranking_request(evolve(question, options=options, raw=False), model)


async def _operations(site: Site) -> frozenset[Operation]:
    """Tell from the routes; the document may be turned off, then nothing is known and everything is tried."""
    document = (await site.get("/openapi.json")).read(_Routes)
    routes = document.paths if document else {}
    has = frozenset(operation for operation, path in PATHS.items() if f"/v1{path}" in routes)
    return has | {Operation.RESPONSE_TOKENS} if _TOKENIZE in routes and Operation.CHAT in has else has


def _count(body: bytes) -> int:
    try:
        return msgspec.json.decode(body, type=_Tokenized).count
    except NOT_JSON as exc:
        raise UpstreamFailed(f"{VLLM.title} answered what is no count of tokens: {exc}") from exc
