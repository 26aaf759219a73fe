"""LM Studio. Source: its REST documentation (v1 since 0.4, v0 before) and its public bug tracker.

It answers 200 to anything, unknown paths included, with ``{"error": ...}`` inside: only the content counts.
"""

import msgspec

from trillm.backends.base import Backend, Signs, Site, capabilities
from trillm.backends.failures import Correction
from trillm.models import Capability, Found, Model, Operation

# Since 0.4, which is told by its list of models; it keeps responses as well.
_SPEAKS = frozenset({Operation.RESPONSES, Operation.MESSAGES})
_V1_PATH, _V0_PATH = "/api/v1/models", "/api/v0/models"

_MEANINGS = {
    "llm": Capability.CHAT,
    "vlm": Capability.CHAT,
    "embedding": Capability.EMBEDDINGS,
    "embeddings": Capability.EMBEDDINGS,
    "vision": Capability.VISION,
    "trained_for_tool_use": Capability.TOOLS,
    "tool_use": Capability.TOOLS,
}


class _Config(msgspec.Struct):
    context_length: int | None = None


class _Instance(msgspec.Struct):
    config: _Config = msgspec.field(default_factory=_Config)


class _V1Model(msgspec.Struct):
    key: str
    type: str
    capabilities: dict[str, object] | None = None
    loaded_instances: list[_Instance] = []
    max_context_length: int | None = None


class _V1(msgspec.Struct):
    models: list[_V1Model]


class _V0Model(msgspec.Struct):
    id: str
    type: str
    state: str
    capabilities: list[str] = []
    max_context_length: int | None = None


class _V0(msgspec.Struct):
    data: list[_V0Model]


class LMStudio(Backend):
    """See the module's docstring."""

    kind = "lmstudio"
    title = "LM Studio"
    ports = (1234,)
    signs = (_V1_PATH, _V0_PATH)
    health = "/v1/models"
    takes_token_ids = False
    encodes_base64 = False  # not documented: it answers with floats
    corrections = (Correction(200, "Unexpected endpoint or method", 404),)

    def recognises(self, signs: Signs) -> bool:
        """Tell by its own lists of models."""
        return signs[_V1_PATH].read(_V1) is not None or signs[_V0_PATH].read(_V0) is not None

    async def inspect(self, site: Site) -> Found:
        """List the models, loaded or not: the first request for one loads it."""
        newer = (await site.get(_V1_PATH)).read(_V1)
        if newer is not None:
            return Found(self.kind, models=tuple(map(_model, newer.models)), speaks=_SPEAKS)
        older = await site.read(_V0_PATH, _V0)
        return Found(self.kind, models=tuple(map(_older_model, older.data)))


def _model(listed: _V1Model) -> Model:
    able = [name for name, has in (listed.capabilities or {}).items() if has]
    loaded = [instance.config.context_length for instance in listed.loaded_instances]
    context = loaded[0] if loaded else None
    return Model(listed.key, capabilities([listed.type, *able], _MEANINGS), context or listed.max_context_length)


def _older_model(listed: _V0Model) -> Model:
    sees = ["vision"] if listed.type == "vlm" else []
    able = [listed.type, *sees, *listed.capabilities]
    return Model(listed.id, capabilities(able, _MEANINGS), listed.max_context_length)
