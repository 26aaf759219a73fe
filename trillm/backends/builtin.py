"""trillm's own simulator: an OpenAI-style server whose list of models says what each can do."""

import msgspec

from trillm.backends.base import Backend, Card, Cards, Signs, capabilities, owned_by
from trillm.models import Capability, Found, Model
from trillm.wire.control import Control

OWNER = "trillm"
_MEANINGS = {capability.value: capability for capability in Capability}


class _Card(Card):
    capabilities: list[str] = msgspec.field(default_factory=list)


class Builtin(Backend):
    """See the module's docstring."""

    kind = "builtin"
    title = "The builtin backend"
    health = "/v1/models"

    def recognises(self, signs: Signs) -> bool:
        """Tell by the models' owner."""
        return owned_by(OWNER, signs["/v1/models"])

    async def inspect(self, http: Control, url: str, api_key: str | None) -> Found:
        """List the models with their capabilities."""
        listed = await self.site(http, url, api_key).read("/v1/models", Cards[_Card])
        return Found(self.kind, models=tuple(map(_model, listed.data)))


def _model(card: _Card) -> Model:
    return Model(card.id, capabilities(card.capabilities, _MEANINGS), card.context)
