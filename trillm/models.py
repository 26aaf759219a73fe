"""Values that several layers share: operations, capabilities, what a model is, what a probe found. No I/O."""

import enum

from attrs import frozen


class Operation(enum.StrEnum):
    """What a caller asks for. The value is the name used in settings, metrics and logs.

    Attributes:
        budget_name: which of the three budgets applies: ``chat``, ``embeddings`` or ``rerank``.
    """

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    RESPONSES = "responses"
    MESSAGES = "messages"
    RESPONSE_TOKENS = "response_tokens"
    MESSAGE_TOKENS = "message_tokens"

    def __init__(self, value: str) -> None:
        self.budget_name = value if value in {"embeddings", "rerank"} else "chat"

    @property
    def capability(self) -> "Capability":
        """The capability a model needs to serve this."""
        return _CAPABILITY[self]


class Capability(enum.StrEnum):
    """What a model can do."""

    CHAT = "chat"
    VISION = "vision"
    TOOLS = "tools"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"


_CAPABILITY = {
    Operation.CHAT: Capability.CHAT,
    Operation.COMPLETIONS: Capability.CHAT,
    Operation.EMBEDDINGS: Capability.EMBEDDINGS,
    Operation.RERANK: Capability.RERANK,
    Operation.RESPONSES: Capability.CHAT,
    Operation.MESSAGES: Capability.CHAT,
    Operation.RESPONSE_TOKENS: Capability.CHAT,
    Operation.MESSAGE_TOKENS: Capability.CHAT,
}


@frozen
class Model:
    """One model as one server offers it.

    Args:
        id: the name the server itself uses, e.g. ``llama3.2:3b`` or ``org/name``.
        capabilities: what it can do; empty when the server does not tell (then everything is tried).
        context_length: tokens, when the server tells.
    """

    id: str
    capabilities: frozenset[Capability] = frozenset()
    context_length: int | None = None


@frozen
class Found:
    """What a probe found at a URL.

    Args:
        kind: a key of ``trillm.backends.KINDS``.
        version: as the server prints it, or None.
        models: what it offers now.
        slots: how many requests it works on at once, when it tells.
        max_batch: how many inputs or documents one request to it may have, when it tells or its kind is known for it.
        speaks: of the operations that not every server knows (Responses, Messages, counting tokens), those it does.
    """

    kind: str
    version: str | None = None
    models: tuple[Model, ...] = ()
    slots: int | None = None
    max_batch: int | None = None
    speaks: frozenset[Operation] = frozenset()
