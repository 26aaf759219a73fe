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

    def __init__(self, value: str) -> None:
        self.budget_name = "chat" if value == "completions" else value

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
    """

    kind: str
    version: str | None = None
    models: tuple[Model, ...] = ()
    slots: int | None = None
