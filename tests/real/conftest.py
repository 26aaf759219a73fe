"""Servers and clients nobody here wrote. Where they are absent the tests are skipped and say how to enable them."""

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "real"
BINARY = Path(os.environ.get("TRILLM_LLAMA_SERVER", _BESIDE / "llama-server"))
MODELS = Path(os.environ.get("TRILLM_LLAMA_MODELS", _BESIDE / "models"))

ARGUMENTS = {
    "chat": ["-m", "tiny-chat.gguf", "-a", "tiny-chat", "-c", "16384", "-np", "8", "--jinja", "--slots"],
    "embed": ["-m", "tiny-embed.gguf", "-a", "tiny-embed", "--embeddings", "--pooling", "mean", "-c", "2048"],
    "rerank": ["-m", "tiny-rerank.gguf", "-a", "tiny-rerank", "--reranking", "-c", "2048", "-np", "4"],
    "vision": ["-m", "tiny-chat.gguf", "--mmproj", "tiny-mmproj.gguf", "-a", "tiny-vision", "-c", "4096", "--jinja"],
}
TOOL = ["-m", "tiny-tool.gguf", "-a", "tiny-tool", "-c", "32768", "-np", "2", "--jinja", "--slots"]


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.real)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """Start a real llama-server for each of its roles; yield their URLs by role."""
    with started(ARGUMENTS, tmp_path_factory.mktemp("llama")) as urls:
        yield urls


@pytest.fixture(scope="session")
def llama_tool(tmp_path_factory):
    """Start a real llama-server whose model calls a tool whenever it may; yield its URL."""
    with started({"tool": TOOL}, tmp_path_factory.mktemp("llama")) as urls:
        yield urls["tool"]


@contextmanager
def started(roles, logs):
    """Run a llama-server for each role; yield their URLs."""
    absent = [name for arguments in roles.values() for name in arguments if name.endswith(".gguf")]
    absent = [name for name in absent if not (MODELS / name).exists()]
    if not BINARY.exists() or absent:
        pytest.skip("no llama-server: set TRILLM_LLAMA_SERVER and TRILLM_LLAMA_MODELS, see CONTRIBUTING.md")
    processes, urls = [], {}
    try:
        for role, arguments in roles.items():
            port = free_port()
            urls[role] = f"http://127.0.0.1:{port}"
            common = ["--host", "127.0.0.1", "--port", str(port), "--no-webui", "--threads", "1", "--offline"]
            with (logs / f"{role}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen([BINARY, *arguments, *common], cwd=MODELS, stdout=log, stderr=subprocess.STDOUT)
                )
        for url in urls.values():
            wait_until_healthy(url)
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


def wait_until_healthy(url: str) -> None:
    for _ in range(200):
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail(f"llama-server at {url} did not become healthy")
