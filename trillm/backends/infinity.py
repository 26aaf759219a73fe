"""infinity. Source: its FastAPI server as of 0.0.77, by reading.

Its API hangs under a prefix of the operator's choice, none by default and often ``/v1``, while /health never has
one. So the address is the API's base, taken as it is.
"""

import msgspec

from trillm.backends.base import Backend, Card, Cards, Signs, Site, capabilities, owned_by
from trillm.backends.failures import Correction
from trillm.errors import UpstreamFailed
from trillm.models import Capability, Found, Model

# Of its request models: longer lists are 422.
_MAX_BATCH = 2048

_MEANINGS = {"embed": Capability.EMBEDDINGS, "rerank": Capability.RERANK}


class _Stats(msgspec.Struct):
    queue_absolute: int
    batch_size: int


class _Card(Card):
    capabilities: list[str] = msgspec.field(default_factory=list)


class _Queue(msgspec.Struct):
    stats: _Stats


class _Queues(msgspec.Struct):
    data: list[_Queue]


class Infinity(Backend):
    """See the module's docstring."""

    kind = "infinity"
    title = "infinity"
    ports = (7997,)
    signs = ("/models", "/v1/models")
    takes_token_ids = False
    corrections = (Correction(400, "Invalid model", 404, "model_not_found"),)

    def recognises(self, signs: Signs) -> bool:
        """Tell by the models' owner."""
        return any(owned_by("infinity", signs[path]) for path in self.signs)

    async def load(self, site: Site) -> int:
        """Return how many batches wait: it counts texts, and a request is about a batch of them."""
        listed = await site.read(self._prefix(site) + "/models", _Queues)
        return sum(-(-each.stats.queue_absolute // max(1, each.stats.batch_size)) for each in listed.data)

    def _prefix(self, site: Site) -> str:
        return "" if self.base(site.url) == site.root else "/v1"

    async def inspect(self, site: Site) -> Found:
        """List the models that embed or rank."""
        prefix = self._prefix(site)
        other = "" if prefix else "/v1"
        if (await site.get(prefix + "/models")).status == 404:
            await _look_elsewhere(site, other)
        listed = await site.read(prefix + "/models", Cards[_Card])
        offered = tuple(model for model in map(_model, listed.data) if model.capabilities)
        return Found(self.kind, models=offered, max_batch=_MAX_BATCH)

    def base(self, url: str) -> str:
        """Take the address as it is."""
        return url.rstrip("/")


async def _look_elsewhere(site: Site, prefix: str) -> None:
    if owned_by("infinity", await site.get(prefix + "/models")):
        raise UpstreamFailed(f"infinity's API is under {site.root}{prefix}: give trillm that address")


def _model(card: _Card) -> Model:
    return Model(card.id, capabilities(card.capabilities, _MEANINGS))
