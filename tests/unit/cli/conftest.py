"""Running commands in this process, and a stand-in for the status page of a running trillm."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen
from support.httpd import Quiet, serving

from trillm.cli import run
from trillm.registry.store import Store

GPU1 = {
    "name": "gpu1",
    "url": "http://gpu1.example:8000",
    "kind": "vllm",
    "version": "0.11.0",
    "state": "up",
    "models": [{"id": "llama-3.1-8b", "capabilities": ["chat", "tools"], "context_length": 131072}],
    "in_flight": 3,
    "limit": 8,
    "waiting": 2,
    "elsewhere": 4,
    "first_token_p50_ms": 120.4,
    "first_token_p95_ms": 340.2,
    "last_error": None,
    "source": "registry",
}
MODELS = [
    {
        "id": "llama-3.1-8b",
        "servers": ["gpu1"],
        "capabilities": ["chat", "tools"],
        "route": False,
        "context_length": 131072,
    },
    {"id": "fast", "servers": ["gpu1"], "capabilities": [], "route": True, "context_length": None},
]
STATUS = {"version": "0.1.0", "ready": True, "error": None, "servers": [GPU1], "models": MODELS}


@frozen
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Outcome]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The registry that commands use unless told otherwise."""
    path = tmp_path / "servers.json"
    monkeypatch.setenv("TRILLM_CONFIG", str(path))
    return Store(path)


@pytest.fixture
def cli(store: Store, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command."""

    def call(*args: str) -> Outcome:
        code = run(args)
        return Outcome(code, *capsys.readouterr())

    return call


@define
class StatusPage:
    """What a running trillm answers to its own command line.

    Args:
        run_file: where it left its address.
        status: the answer, changed by tests.
        body: sent in its place, if not None.
    """

    run_file: Path
    url: str = ""
    status: dict[str, Any] = field(factory=lambda: json.loads(json.dumps(STATUS)))
    body: bytes | None = None
    token: str = "the-operator-token"

    def announce(self, **changes: Any) -> None:
        note = {"pid": os.getpid(), "url": self.url, "token": self.token}
        self.run_file.write_text(json.dumps(note | changes))


@pytest.fixture
def running(store: Store) -> Iterator[StatusPage]:
    """A trillm that runs on the registry."""
    page = StatusPage(store.path.with_name("servers.json.run"))

    class Handler(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - the library's
            welcome = self.path == "/trillm/status" and self.headers["Authorization"] == f"Bearer {page.token}"
            self.answer(200 if welcome else 401, json.dumps(page.status).encode() if page.body is None else page.body)

    with serving(Handler) as page.url:
        page.announce()
        yield page


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port: int = once.getsockname()[1]
    return port


@pytest.fixture
def llm() -> Iterator[str]:
    """The URL of an OpenAI-compatible server with two models, of which nothing more is known."""

    class Handler(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - the library's
            models = {"object": "list", "data": [{"id": name, "object": "model"} for name in ("llama", "nomic")]}
            self.answer(200 if self.path == "/v1/models" else 404, json.dumps(models).encode())

    with serving(Handler) as url:
        yield url
