"""How busy a server says it is: every recorded one that tells, and some that do not."""

import pytest
from support.network import Network

from trillm.backends import KINDS
from trillm.backends.base import Site
from trillm.backends.detect import inspect
from trillm.wire.control import open_control


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("llamacpp_vision", 2 + 1),
        ("llamacpp_chat", None),  # it was not started with --metrics
        ("llamacpp_sleeping", None),
        ("llamacpp_router", None),
        ("vllm_chat", 4 + 3 + 2),
        ("tei_rerank", 5),
        ("infinity", 3),  # 70 texts in batches of 32
        ("infinity_prefix", 0),
        ("ollama", None),
        ("lmstudio", None),
        ("openai", None),
        ("builtin", None),
    ],
)
async def test_it_says_how_many_requests_it_has(recording, name, load):
    server = recording(name)
    async with open_control(Network(server.transport)) as http:
        backend = KINDS[server.found.kind]
        assert await backend.load(Site(backend, http, server.url, "k", server.found)) == load
    # One GET at most, and never of llama.cpp's /slots: that wakes it, and keeps it awake.
    assert len(server.transport.asked) <= 1
    assert not [line for line in server.transport.asked if not line.startswith("GET") or "slots" in line]
    assert server.transport.keys <= {"Bearer k"}


async def test_looking_at_a_server_does_not_ask_for_its_load(recording):
    server = recording("vllm_chat")
    async with open_control(Network(server.transport)) as http:
        await inspect(http, server.url)
    assert "GET /metrics" not in server.transport.asked
