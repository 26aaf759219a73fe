"""What trillm's own tools take and give: each a struct, from which its JSON schema comes too."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trillm.mcp.session import Params

T = TypeVar("T")

Name = Annotated[str, Meta(min_length=1, max_length=1000)]
Model = Annotated[str, Meta(min_length=1, max_length=1000, description="A model, as list_models names it.")]


class Message(Struct):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class Chat(Struct, forbid_unknown_fields=True):
    """What ``chat`` takes: ``prompt`` or ``messages``."""

    model: Model
    prompt: Annotated[str, Meta(description="What to answer. Or give messages.")] | UnsetType = UNSET
    system: Annotated[str, Meta(description="Instructions that come before.")] | UnsetType = UNSET
    messages: Annotated[list[Message], Meta(min_length=1, description="A conversation so far.")] | UnsetType = UNSET
    max_tokens: Annotated[int, Meta(ge=1, description="At most so many tokens.")] | UnsetType = UNSET
    temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    top_p: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    stop: Annotated[list[str], Meta(max_length=16)] | UnsetType = UNSET


class Chatted(Struct, omit_defaults=True):
    """What ``chat`` gives."""

    model: str
    content: str
    finish_reason: str | None = None
    server: str | UnsetType = UNSET
    usage: dict[str, Any] | UnsetType = UNSET


class Embed(Struct, forbid_unknown_fields=True):
    """What ``embed`` takes."""

    model: Model
    input: Annotated[list[str], Meta(min_length=1, description="Texts, one vector each.")]
    dimensions: Annotated[int, Meta(ge=1)] | UnsetType = UNSET


class Embedded(Struct, omit_defaults=True):
    """What ``embed`` gives."""

    model: str
    embeddings: Annotated[list[list[float]], Meta(description="In the order of the texts.")]
    server: str | UnsetType = UNSET
    usage: dict[str, Any] | UnsetType = UNSET


class Rerank(Struct, forbid_unknown_fields=True):
    """What ``rerank`` takes."""

    model: Model
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str], Meta(min_length=1)]
    top_n: Annotated[int, Meta(ge=1, description="Only so many of the best.")] | UnsetType = UNSET


class Ranked(Struct):
    """One document's place."""

    index: Annotated[int, Meta(description="Of the document, from 0.")]
    relevance_score: float


class Reranked(Struct, omit_defaults=True):
    """What ``rerank`` gives."""

    model: str
    results: Annotated[list[Ranked], Meta(description="The most relevant first.")]
    server: str | UnsetType = UNSET
    usage: dict[str, Any] | UnsetType = UNSET


class ListModels(Struct, forbid_unknown_fields=True):
    """What ``list_models`` takes."""

    capability: Literal["chat", "vision", "tools", "embeddings", "rerank"] | UnsetType = UNSET


class ListedModel(Struct, omit_defaults=True):
    """One model that may be used."""

    id: str
    owned_by: str
    capabilities: list[str]
    max_model_len: int | UnsetType = UNSET


class Models(Struct):
    """What ``list_models`` gives."""

    models: list[ListedModel]


class ServerStatus(Struct, forbid_unknown_fields=True):
    """What ``server_status`` takes."""

    name: Annotated[str, Meta(description="Only this server.")] | UnsetType = UNSET


class Statuses(Struct):
    """What ``server_status`` gives."""

    ready: bool
    servers: list[dict[str, Any]]


class AddServer(Struct, forbid_unknown_fields=True):
    """What ``add_server`` takes."""

    name: Name
    url: Annotated[str, Meta(description="http(s)://host:port, with a path such as /v1 if it has one.")]
    kind: Annotated[str, Meta(description="Found by probing, if left out.")] | UnsetType = UNSET
    max_concurrent: Annotated[int, Meta(ge=1)] | UnsetType = UNSET


class OneServer(Struct, forbid_unknown_fields=True):
    """What the tools that change one server take."""

    name: Name


class Done(Struct):
    """What the tools that change something give."""

    done: str


def schema(shape: type[Struct]) -> Params:
    """Return the JSON schema (2020-12) of ``shape``, an object at its root as MCP wants it."""
    (_,), definitions = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    root: Params = definitions.pop(shape.__name__)
    # Both are our own words for ourselves.
    for described in (root, *definitions.values()):
        described.pop("title", None)
        described.pop("description", None)
    return {**root, "$defs": definitions} if definitions else root


def read(shape: type[T], arguments: Any) -> T:
    """Make ``shape`` of the arguments of a call.

    Raises:
        msgspec.ValidationError: it says what is wrong, and where.
    """
    return msgspec.convert(arguments, shape)
