"""The servers behind trillm that the clients are tried on, and trillm before them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from attrs import field, frozen

from tests.support import llama
from tests.support.program import serving, wait_for

#: A model for each thing that can be asked, by the server that has it. What is missing there is not tried there.
Models = Mapping[str, Mapping[str, str]]

BUILTIN: Models = {"builtin": {"chat": "sim-chat", "embed": "sim-embed", "rerank": "sim-rerank"}}
LLAMA: Models = {
    "llama.cpp": {
        "chat": "chat/tiny-chat",
        "think": "think/tiny-think",
        "tool": "tool/tiny-tool",
        "vision": "vision/tiny-vision",
        "embed": "tiny-embed",
        "rerank": "tiny-rerank",
    }
}
#: The same servers once more, as ones of which nothing is known but chat completions.
CHAT_ONLY: Models = {
    "chat only": {purpose: f"{purpose}-only/tiny-{purpose}" for purpose in ("chat", "think", "tool", "vision")}
}
#: An infinity that somebody runs: ``TRILLM_INFINITY`` is its address, with models named as here.
INFINITY: Models = {"infinity": {"embed": "minilm", "rerank": "tiny-rerank-hf"}}


@frozen
class Site:
    """Where the clients find trillm, and what it offers them.

    Args:
        url: of trillm, without ``/v1``.
        models: see :data:`Models`.
    """

    url: str
    models: Models = field(factory=dict)


@contextmanager
def running_trillm(folder: Path) -> Iterator[Site]:
    """Run trillm before every server that this machine has."""
    with ExitStack() as stack:
        models, servers = dict(BUILTIN), {}
        if llama.is_here():
            servers |= stack.enter_context(llama.running_llama(folder))
            models |= LLAMA | CHAT_ONLY
        if infinity := os.environ.get("TRILLM_INFINITY"):
            servers["infinity"] = infinity
            models |= INFINITY
        sim = stack.enter_context(_simulator(folder))
        program = stack.enter_context(serving(folder, "--no-discover", "--embeddings-budget", "20"))
        for name, url in {"builtin": sim, **servers}.items():
            program.cli("server", "add", name, url)
            if name in CHAT_ONLY["chat only"]:
                program.cli("server", "add", f"{name}-only", url, "--kind", "openai")
        # For callers that cannot name a model.
        program.cli("route", "add", "rerank", "--to", f"builtin/{BUILTIN['builtin']['rerank']}")
        wanted = [model for offered in models.values() for model in offered.values()]
        wait_for(lambda: all(_is_served(program.url, model) for model in wanted))
        yield Site(program.url, models)


@contextmanager
def _simulator(folder: Path) -> Iterator[str]:
    """Run the builtin server as one that is registered: only so it serves beside others."""
    port = llama.free_port()
    command = [sys.executable, "-m", "trillm", "sim", "--port", str(port)]
    with (folder / "sim.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"), process, folder / "sim.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _is_served(url: str, model: str) -> bool:
    return httpx.get(f"{url}/v1/models/{model}", trust_env=False).is_success
