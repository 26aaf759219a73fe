"""llama.cpp's ``llama-server``, with one model or as a router of several.

Source: observed on a build of commit 0c1e570 (0.5.0-dev). One model: what it cannot do is answered 501 even to an
empty request, so two empty POSTs tell what it is for, without a generation. But *every* POST wakes a server that
``--sleep-idle-seconds`` put to sleep, and keeps it awake; GETs of /health, /props and /v1/models do not. Hence none
is sent to a sleeping server, nor to one whose model is known already. A GET of /slots does both as well, one of
/metrics, which has to be turned on, does neither. Router: the models' arguments tell.

It speaks Messages and counts tokens in both dialects. Its Responses are not passed through: the events of their streams
have neither ``output_index`` nor ``sequence_number``, and openai-python 3.57 fails on the second item.
"""

from typing import Any

import msgspec

from trillm.backends.base import Backend, Card, Cards, Signs, Site, models
from trillm.backends.failures import Correction
from trillm.models import Capability, Found, Model, Operation

_UNKNOWN: frozenset[Capability] = frozenset()
_SPEAKS = frozenset({Operation.MESSAGES, Operation.MESSAGE_TOKENS, Operation.RESPONSE_TOKENS})


class _Settings(msgspec.Struct):
    n_ctx: int


class _Modalities(msgspec.Struct):
    vision: bool = False


class _Abilities(msgspec.Struct):
    supports_tools: bool = False


class _Props(msgspec.Struct):
    default_generation_settings: _Settings
    build_info: str | None = None
    total_slots: int | None = None
    modalities: _Modalities = msgspec.field(default_factory=_Modalities)
    chat_template_caps: _Abilities = msgspec.field(default_factory=_Abilities)
    is_sleeping: bool = False
    role: str | None = None


class _Status(msgspec.Struct):
    args: list[str] = []


class _Architecture(msgspec.Struct):
    input_modalities: list[str] = []


class _RoutedCard(Card):
    status: _Status = msgspec.field(default_factory=_Status)
    architecture: _Architecture = msgspec.field(default_factory=_Architecture)
    meta: dict[str, Any] | None = None  # of loaded models only


class LlamaCpp(Backend):
    """See the module's docstring."""

    kind = "llamacpp"
    title = "llama.cpp"
    ports = (9931, 8080)  # the default moved from 8080 to 9931 in August 2026
    signs = ("/props",)
    gauges = ("llamacpp:requests_processing", "llamacpp:requests_deferred")
    scores_are_logits = True
    overlooks_dimensions = True
    thoughts = "reasoning_content"
    corrections = (
        # Requests that are wrong, answered as if the server were.
        Correction(500, "image input is not supported", 400, "model_not_capable"),
        Correction(500, "does not support logits computation", 400, "model_not_capable"),
        Correction(500, "json.exception.parse_error", 400, "invalid_json"),
        Correction(400, "exceed_context_size_error", 400, "context_length_exceeded"),
        Correction(400, "' not found", 404, "model_not_found"),
    )

    def recognises(self, signs: Signs) -> bool:
        """Tell by its properties, or by its name where a missing key or a model still loading hides them."""
        props = signs["/props"]
        return props.header(b"server") == b"llama.cpp" or props.read(_Props) is not None

    async def inspect(self, site: Site) -> Found:
        """Find out what it is for and how many requests it takes at once."""
        props = await site.read("/props", _Props)
        if props.role == "router":
            routed = (await site.read("/v1/models", Cards[_RoutedCard])).data
            speaks = site.known.speaks if site.known else await _speaks(site)
            return Found(self.kind, props.build_info, tuple(map(_routed, routed)), speaks=speaks)
        cards = (await site.read("/v1/models", Cards[Card])).data
        for card in cards:
            card.context_length = props.default_generation_settings.n_ctx
        if site.known is not None and (can := site.remembered(*(card.id for card in cards))):
            speaks = site.known.speaks
        else:
            can = await _capabilities(site, props)
            speaks = await _speaks(site) if Capability.CHAT in can else frozenset()
        return Found(self.kind, props.build_info, models(cards, can), props.total_slots, speaks=speaks)


async def _capabilities(site: Site, props: _Props) -> frozenset[Capability]:
    """Find out what the one model is for. ``--embeddings`` is documented as for such models only."""
    if props.is_sleeping:
        return _UNKNOWN
    if await _takes(site, "/v1/rerank"):
        return frozenset({Capability.RERANK})
    if await _takes(site, "/v1/embeddings"):
        return frozenset({Capability.EMBEDDINGS})
    return _chat(vision=props.modalities.vision, tools=props.chat_template_caps.supports_tools)


async def _speaks(site: Site) -> frozenset[Operation]:
    """Find out whether it is new enough (December 2025) to have the paths; a version number says little here."""
    answer = await site.post("/v1/messages/count_tokens", {})
    return _SPEAKS if answer.status not in {404, 405} else frozenset()


async def _takes(site: Site, path: str) -> bool:
    answer = await site.post(path, {})
    # A chat model with --embeddings but no --pooling has the path and refuses whatever it is sent.
    return answer.status == 400 and b"Pooling type 'none'" not in answer.body


def _routed(card: _RoutedCard) -> Model:
    """Return what a router says of one of its models, loaded or not."""
    n_ctx = (card.meta or {}).get("n_ctx")
    return Model(card.id, _purpose(card), n_ctx if isinstance(n_ctx, int) else None)


def _purpose(card: _RoutedCard) -> frozenset[Capability]:
    args = card.status.args
    if not args:
        return _UNKNOWN
    if "--reranking" in args:
        return frozenset({Capability.RERANK})
    if "--embeddings" in args:
        return frozenset({Capability.EMBEDDINGS})
    return _chat(vision="image" in card.architecture.input_modalities, tools=True)


def _chat(*, vision: bool, tools: bool) -> frozenset[Capability]:
    maybe = {Capability.VISION: vision, Capability.TOOLS: tools}
    return frozenset({Capability.CHAT, *(capability for capability, has in maybe.items() if has)})
