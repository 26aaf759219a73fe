"""What all kinds share: addresses, and that each row of the table is complete."""

import pytest

from trillm.backends import KINDS
from trillm.models import Operation

CHAT, EMBEDDINGS, RERANK = Operation.CHAT, Operation.EMBEDDINGS, Operation.RERANK

PATHS = {
    Operation.CHAT: "/chat/completions",
    Operation.COMPLETIONS: "/completions",
    Operation.EMBEDDINGS: "/embeddings",
    Operation.RERANK: "/rerank",
    Operation.RESPONSES: "/responses",
    Operation.MESSAGES: "/messages",
    Operation.RESPONSE_TOKENS: "/responses/input_tokens",
    Operation.MESSAGE_TOKENS: "/messages/count_tokens",
}
#: What some kind has under a path, and in a body, of its own.
OWN_WAYS = {("vllm", Operation.RESPONSE_TOKENS)}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_complete(kind):
    backend = KINDS[kind]
    assert backend.kind == kind
    assert backend.title
    assert all(path.startswith("/") for path in (*backend.signs, backend.health))


def test_the_most_general_kind_is_asked_last():
    assert list(KINDS)[-1] == "openai"


def test_the_usual_ports_are_those_the_servers_document():
    assert {kind: backend.ports for kind, backend in KINDS.items() if backend.ports} == {
        "ollama": (11434,),
        "lmstudio": (1234,),
        "vllm": (8000,),
        "llamacpp": (9931, 8080),
        "infinity": (7997,),
        "tei": (3000, 8080),
    }


@pytest.mark.parametrize("kind", ["ollama", "llamacpp", "vllm", "lmstudio", "builtin", "openai"])
@pytest.mark.parametrize(
    "url", ["http://h.example:1", "http://h.example:1/", "http://h.example:1/v1", "http://h.example:1/v1/"]
)
def test_openai_paths_hang_under_v1_however_the_address_is_given(kind, url):
    endpoints = [KINDS[kind].endpoint(url, op) for op in Operation if (kind, op) not in OWN_WAYS]
    assert endpoints == [f"http://h.example:1/v1{path}" for op, path in PATHS.items() if (kind, op) not in OWN_WAYS]


@pytest.mark.parametrize(
    ("kind", "url", "operation", "endpoint"),
    [
        ("openai", "https://openrouter.example/api/v1", CHAT, "https://openrouter.example/api/v1/chat/completions"),
        ("openai", "https://g.example/v1beta/openai/", CHAT, "https://g.example/v1beta/openai/chat/completions"),
        ("openai", "https://z.example/api/paas/v4", CHAT, "https://z.example/api/paas/v4/chat/completions"),
        ("openai", "https://c.example/v2", RERANK, "https://c.example/v2/rerank"),
        ("openai", "https://v1.example", CHAT, "https://v1.example/v1/chat/completions"),
        ("vllm", "https://h.example/team/vllm/v1", RERANK, "https://h.example/team/vllm/v1/rerank"),
        ("vllm", "http://h.example/v1", Operation.RESPONSE_TOKENS, "http://h.example/tokenize"),
        ("tei", "http://h.example:3000", RERANK, "http://h.example:3000/rerank"),
        ("tei", "http://h.example:3000/v1", RERANK, "http://h.example:3000/rerank"),
        ("tei", "http://h.example:3000/v1", EMBEDDINGS, "http://h.example:3000/v1/embeddings"),
        ("infinity", "http://h.example:7997", EMBEDDINGS, "http://h.example:7997/embeddings"),
        ("infinity", "http://h.example:7997/v1/", RERANK, "http://h.example:7997/v1/rerank"),
    ],
)
def test_addresses_with_ways_of_their_own(kind, url, operation, endpoint):
    assert KINDS[kind].endpoint(url, operation) == endpoint


@pytest.mark.parametrize(
    ("kind", "operation"),
    [(kind, op) for kind in sorted(set(KINDS) - {"tei", "ollama"}) for op in Operation if (kind, op) not in OWN_WAYS],
)
def test_bodies_pass_untouched(kind, operation):
    body = b'{"max_completion_tokens": 5, "documents": []}'
    assert KINDS[kind].request_body(operation, body, "m") is body
