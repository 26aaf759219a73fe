"""trillm itself: its simulator, or another gateway. Both list their models with what each can do."""

import msgspec

from trillm.backends.base import Backend, Card, Cards, Signs, Site, capabilities, owned_by
from trillm.models import Capability, Found, Model

OWNER = "trillm"  # of the simulator's models; a gateway's belong to its servers
_MEANINGS = {capability.value: capability for capability in Capability}


class _Card(Card):
    capabilities: list[str] = msgspec.field(default_factory=list)


class _Readiness(msgspec.Struct):
    ready: bool
    servers_up: int


class Builtin(Backend):
    """See the module's docstring."""

    kind = "builtin"
    title = "trillm"
    signs = ("/v1/models", "/health/ready")
    health = "/v1/models"

    def recognises(self, signs: Signs) -> bool:
        """Tell by the models' owner, or by a gateway's account of itself."""
        return owned_by(OWNER, signs["/v1/models"]) or signs["/health/ready"].read(_Readiness) is not None

    async def inspect(self, site: Site) -> Found:
        """List the models with their capabilities."""
        listed = await site.read("/v1/models", Cards[_Card])
        return Found(self.kind, models=tuple(map(_model, listed.data)))


def _model(card: _Card) -> Model:
    return Model(card.id, capabilities(card.capabilities, _MEANINGS), card.context)
