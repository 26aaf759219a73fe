"""What is compared: each face is a name and the address of a process that was started for it."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from attrs import evolve, frozen

from benchmarks.processes import Running, running
from benchmarks.upstream import MODEL
from trillm.bench.asks import Target

DIRECT = "direct"
TRILLM = "trillm"
NAIVE = "Quart-Trio + httpx"


@frozen
class Face:
    """One way to the upstream.

    Args:
        name: for tables and plots.
        server: the process that is measured.
        embedding_model: the name of its model for embeddings.
        most_connections: the most that it is asked for at once.
        most_rounds: the most often that it is measured under one load.
    """

    name: str
    server: Running
    embedding_model: str = MODEL
    most_connections: int = 100_000
    most_rounds: int = 100

    @property
    def target(self) -> Target:
        """Whom to ask."""
        return self.server.target

    @property
    def embedder(self) -> Target:
        """Whom to ask for embeddings."""
        return evolve(self.target, model=self.embedding_model)


@asynccontextmanager
async def open_faces(folder: Path, *, tokens: int, gap_s: float, naive: bool = True) -> AsyncIterator[list[Face]]:
    """Start the upstream and what stands in front of it; the first face is the upstream itself.

    Args:
        folder: for the registry and the logs.
        tokens: in each stream.
        gap_s: seconds between two of them.
        naive: whether the baseline is wanted.
    """
    async with AsyncExitStack() as stack:

        async def start(name: str, *command: str) -> Face:
            label = name.partition(" ")[0]
            return Face(name, await stack.enter_async_context(running(label, list(command), folder, MODEL)))

        direct = await start(DIRECT, "benchmarks.upstream", "{port}", "--tokens", str(tokens), "--gap", str(gap_s))
        upstream = direct.server.url
        faces = [direct, await start(TRILLM, *_trillm(folder, upstream))]
        if naive:
            faces.append(await start(NAIVE, "benchmarks.naive", "{port}", upstream))
        yield faces


def _trillm(folder: Path, upstream: str) -> list[str]:
    """Write a registry that names the upstream; return the command."""
    registry = write_registry(folder, upstream)
    return ["trillm", "serve", "--no-discover", "--port", "{port}", "--config", str(registry)]


def write_registry(folder: Path, upstream: str, servers_count: int = 1) -> Path:
    """Write a registry that names the upstream alone, under one name or several."""
    registry = folder / "servers.json"
    servers = {f"upstream-{number}": {"url": upstream, "kind": "openai"} for number in range(servers_count)}
    registry.write_text(json.dumps({"version": 1, "servers": servers}))
    return registry
