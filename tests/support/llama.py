"""Real llama-servers with tiny models, where the machine has them."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "real"
BINARY = Path(os.environ.get("TRILLM_LLAMA_SERVER", _BESIDE / "llama-server"))
MODELS = Path(os.environ.get("TRILLM_LLAMA_MODELS", _BESIDE / "models"))

ARGUMENTS = {
    "chat": ["-m", "tiny-chat.gguf", "-a", "tiny-chat", "-c", "16384", "-np", "8", "--jinja", "--slots"],
    "embed": ["-m", "tiny-embed.gguf", "-a", "tiny-embed", "--embeddings", "--pooling", "mean", "-c", "2048"],
    "rerank": ["-m", "tiny-rerank.gguf", "-a", "tiny-rerank", "--reranking", "-c", "2048", "-np", "4"],
    "think": ["-m", "tiny-think.gguf", "-a", "tiny-think", "-c", "8192", "-np", "4", "--jinja"],
    "tool": ["-m", "tiny-tool.gguf", "-a", "tiny-tool", "-c", "32768", "-np", "2", "--jinja", "--slots"],
    "vision": ["-m", "tiny-chat.gguf", "--mmproj", "tiny-mmproj.gguf", "-a", "tiny-vision", "-c", "4096", "--jinja"],
}


def is_here() -> bool:
    """Whether there is a llama-server and its models."""
    return BINARY.exists() and (MODELS / "tiny-chat.gguf").exists()


@contextmanager
def running_llama(
    logs: Path, roles: Sequence[str] = tuple(ARGUMENTS), more: Sequence[str] = ()
) -> Iterator[dict[str, str]]:
    """Run one llama-server for each of the roles whose model is there, with more arguments; yield URLs by role."""
    roles = [role for role in roles if (MODELS / ARGUMENTS[role][1]).exists()]
    processes, urls = [], {}
    try:
        for role in roles:
            port = free_port()
            urls[role] = f"http://127.0.0.1:{port}"
            common = ["--host", "127.0.0.1", "--port", str(port), "--no-webui", "--threads", "1", "--offline"]
            command = [str(BINARY), *ARGUMENTS[role], *common, *more]
            with (logs / f"{role}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, cwd=MODELS, stdout=log, stderr=subprocess.STDOUT))
        for url in urls.values():
            _wait_until_healthy(url)
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_healthy(url: str) -> None:
    for _ in range(200):
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.05)
    raise AssertionError(f"llama-server at {url} did not become healthy")
