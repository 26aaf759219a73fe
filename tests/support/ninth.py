"""Acme's server, a kind that does not exist. Source: the version, and what was read or run to know the following.

It lists its models at /about alone, and refuses ``seed``.
"""

from typing import Literal

import msgspec

from trillm.backends.base import Backend, Signs, Site, capabilities, fields_of
from trillm.backends.failures import Correction
from trillm.models import Capability, Found, Model, Operation

_MEANINGS = {"talk": Capability.CHAT, "see": Capability.VISION, "embed": Capability.EMBEDDINGS}


class _Listed(msgspec.Struct):
    name: str
    can: list[str] = []
    window: int | None = None


class _About(msgspec.Struct):
    product: Literal["acme"]
    version: str
    models: list[_Listed]
    workers: int | None = None


class Acme(Backend):
    """See the module's docstring."""

    kind = "acme"
    title = "Acme"
    ports = (4711,)
    signs = ("/about",)
    health = "/about"
    gauges = ("acme_requests",)
    takes_token_ids = False
    corrections = (Correction(500, "no such model", 404, "model_not_found"),)

    def recognises(self, signs: Signs) -> bool:
        """Tell by what it says of itself."""
        return signs["/about"].read(_About) is not None

    async def inspect(self, site: Site) -> Found:
        """Read what it says of itself."""
        about = await site.read("/about", _About)
        models = (Model(each.name, capabilities(each.can, _MEANINGS), each.window) for each in about.models)
        return Found(self.kind, about.version, tuple(models), slots=about.workers)

    def request_body(self, operation: Operation, body: bytes, model: str) -> bytes:
        """Leave out what it refuses."""
        body = super().request_body(operation, body, model)
        if b'"seed"' not in body:
            return body
        return msgspec.json.encode({name: value for name, value in fields_of(body).items() if name != "seed"})
