"""The clients that are tried: a row for each, a file in ``probes/`` for what it is tried with."""

from pathlib import Path

from attrs import frozen

PROBES = Path(__file__).parent / "probes"


@frozen
class Client:
    """One client library.

    Args:
        name: for the table, and of its environment.
        requirements: what pip installs, the library itself first.
        probe: a file of ``probes/``, without ``.py``.
    """

    name: str
    requirements: tuple[str, ...]
    probe: str

    @property
    def script(self) -> Path:
        """What its Python runs."""
        return PROBES / f"{self.probe}.py"


CLIENTS = (
    Client("cohere 7", ("cohere>=7,<8",), "cohere_"),
    Client("cohere 5", ("cohere>=5,<6",), "cohere_"),
    Client("voyageai", ("voyageai",), "voyageai_"),
    Client("litellm", ("litellm",), "litellm_"),
    Client("langchain-cohere", ("langchain-cohere",), "langchain_cohere_"),
    Client("langchain-openai", ("langchain-openai",), "langchain_openai_"),
    Client("openai", ("openai>=3",), "openai_embeddings"),
    Client("openai, chat", ("openai>=3",), "openai_chat"),
    Client("anthropic", ("anthropic>=2",), "anthropic_"),
    Client("langchain-openai, chat", ("langchain-openai",), "langchain_openai_chat"),
    Client("litellm, chat", ("litellm",), "litellm_chat"),
    Client("instructor", ("instructor", "openai>=2"), "instructor_"),
    Client("pydantic-ai", ("pydantic-ai-slim[openai,anthropic]",), "pydantic_ai_"),
    Client("llm", ("llm",), "llm_"),
)
