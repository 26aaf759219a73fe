"""The servers behind trillm that the clients are tried on, and trillm before them."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from attrs import field, frozen

from tests.support import llama
from tests.support.program import serving, serving_sim, wait_for

#: A model for each thing that can be asked, by the column of the table. What is missing there is not tried there.
Models = Mapping[str, Mapping[str, str]]


@frozen
class Site:
    """Where the clients find trillm, and what it offers them.

    Args:
        url: of trillm, without ``/v1``.
        models: see :data:`Models`.
    """

    url: str
    models: Models = field(factory=dict)


@frozen
class Server:
    """One registered server.

    Args:
        name: in the registry.
        url: where it is.
        models: by purpose.
        options: more words for ``trillm server add``.
        column: of the table, if not its name.
    """

    name: str
    url: str
    models: Mapping[str, str]
    options: tuple[str, ...] = ()
    column: str | None = None


@contextmanager
def running_trillm(folder: Path) -> Iterator[Site]:
    """Run trillm before every server that this machine has."""
    with ExitStack() as stack:
        builtin = {"chat": "sim-chat", "embed": "sim-embed", "rerank": "sim-rerank"}
        servers = [Server("builtin", stack.enter_context(serving_sim()), builtin)]
        if llama.is_here():
            servers += _llama_servers(stack.enter_context(llama.running_llama(folder)))
        servers += _outside()
        program = stack.enter_context(serving(folder, "--no-discover", "--embeddings-budget", "20"))
        for server in servers:
            program.cli("server", "add", server.name, server.url, *server.options)
        # For callers that cannot name a model.
        program.cli("route", "add", "rerank", "--to", "builtin/sim-rerank")
        models: dict[str, dict[str, str]] = {}
        for server in servers:
            named = {purpose: f"{server.name}/{model}" for purpose, model in server.models.items()}
            models.setdefault(server.column or server.name, {}).update(named)
        wait_for(lambda: all(_is_served(program.url, name) for column in models.values() for name in column.values()))
        yield Site(program.url, models)


def _llama_servers(urls: Mapping[str, str]) -> Iterator[Server]:
    """Those that chat are there once more, as servers of which nothing is known but chat completions."""
    for role, url in urls.items():
        models = {role: f"tiny-{role}"}
        yield Server(role, url, models, column="llama.cpp")
        if role not in {"embed", "rerank"}:
            yield Server(f"{role}-only", url, models, ("--kind", "openai"), "chat only")


def _outside() -> Iterator[Server]:
    """Servers that somebody runs: ``TRILLM_SERVERS`` is a file that tells of them, see ``CONTRIBUTING.md``."""
    if path := os.environ.get("TRILLM_SERVERS"):
        for name, told in json.loads(Path(path).read_text()).items():
            yield Server(name, told["url"], told["models"], tuple(told.get("options", ())))


def _is_served(url: str, model: str) -> bool:
    return httpx.get(f"{url}/v1/models/{model}", trust_env=False).is_success
