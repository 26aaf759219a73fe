"""Ollama. Source: its routes and OpenAI layer as of August 2026, by reading.

What it has no name for, it ignores: ``max_completion_tokens`` is one of those, which would leave the length of an
answer without a limit. The context length of a model depends on memory and settings: it is told of loaded models alone
(https://docs.ollama.com/api/ps), and remembered of those that were. It speaks Responses since 0.13.3 and Messages since
0.14.
"""

import re

import msgspec
import trio

from trillm.backends.base import Backend, Signs, Site, capabilities, fields_of
from trillm.backends.failures import Correction
from trillm.errors import UpstreamFailed
from trillm.models import Capability, Found, Model, Operation

_MEANINGS = {
    "completion": Capability.CHAT,
    "vision": Capability.VISION,
    "tools": Capability.TOOLS,
    "embedding": Capability.EMBEDDINGS,
}
_SINCE = {Operation.RESPONSES: (0, 13, 3), Operation.MESSAGES: (0, 14)}
# Its /api/show reads a file for each model: a few at a time are quick enough and leave its disk to others.
_SHOWS_AT_ONCE = 8


class _Version(msgspec.Struct):
    version: str


class _Tag(msgspec.Struct):
    name: str
    capabilities: list[str] | None = None


class _Tags(msgspec.Struct):
    models: list[_Tag]


class _Loaded(msgspec.Struct):
    name: str
    context_length: int | None = None


class _Running(msgspec.Struct):
    models: list[_Loaded]


class _Shown(msgspec.Struct):
    capabilities: list[str] = []


class Ollama(Backend):
    """See the module's docstring."""

    kind = "ollama"
    title = "Ollama"
    ports = (11434,)
    signs = ("/",)
    health = "/api/version"
    takes_token_ids = False
    thoughts = "reasoning"
    needs_inlined_images = True
    corrections = (Correction(404, "model ", 404, "model_not_found"),)

    def recognises(self, signs: Signs) -> bool:
        """Tell by its greeting."""
        return b"Ollama is running" in signs["/"].body

    async def inspect(self, site: Site) -> Found:
        """List the models, loaded or not, without loading any."""
        version = (await site.read("/api/version", _Version)).version
        tags = (await site.read("/api/tags", _Tags)).models
        await _fill_in(site, [tag for tag in tags if tag.capabilities is None])
        contexts = await _contexts(site)
        offered = tuple(Model(tag.name, _capabilities(site, tag), contexts.get(tag.name)) for tag in tags)
        return Found(self.kind, version, offered, speaks=_speaks(version))

    def request_body(self, operation: Operation, body: bytes, model: str) -> bytes:
        """Give the limit on the answer's length its old name, and thoughts theirs."""
        body = super().request_body(operation, body, model)
        if operation is not Operation.CHAT or b'"max_completion_tokens"' not in body:
            return body
        fields = fields_of(body)
        limit = fields.pop("max_completion_tokens", None)
        if limit is not None:
            fields.setdefault("max_tokens", limit)
        return msgspec.json.encode(fields)


def _speaks(version: str) -> frozenset[Operation]:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    return frozenset(operation for operation, since in _SINCE.items() if numbers >= since)


async def _fill_in(site: Site, tags: list[_Tag]) -> None:
    """Ask for the capabilities that the list of an older version leaves out."""
    at_once = trio.CapacityLimiter(_SHOWS_AT_ONCE)

    async def show(tag: _Tag) -> None:
        async with at_once:
            try:
                shown = (await site.post("/api/show", {"model": tag.name})).read(_Shown)
            except UpstreamFailed:
                shown = None  # it has listed the model; what that can do stays untold
            tag.capabilities = shown.capabilities if shown else []

    async with trio.open_nursery() as nursery:
        for tag in tags:
            if not site.remembered(tag.name):
                nursery.start_soon(show, tag)


async def _contexts(site: Site) -> dict[str, int | None]:
    """Return the context lengths of the models that are loaded, or were."""
    running = (await site.get("/api/ps")).read(_Running)
    loaded = running.models if running else ()
    before = site.known.models if site.known else ()
    return {m.id: m.context_length for m in before} | {m.name: m.context_length for m in loaded if m.context_length}


def _capabilities(site: Site, tag: _Tag) -> frozenset[Capability]:
    return capabilities(tag.capabilities or (), _MEANINGS) or site.remembered(tag.name)
