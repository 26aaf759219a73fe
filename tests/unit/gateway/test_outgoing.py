"""What a server is sent: its own path, model and key, and nothing of the caller's that is not its business."""

import json
import os

import pytest
from support.pools import a_pool, a_route, a_server, found

from trillm.budget import Budget
from trillm.gateway.call import Call, read_call
from trillm.gateway.outgoing import asking, outgoing
from trillm.models import Operation
from trillm.wire.exchange import Request
from trillm.wire.net import Origin

CHAT, COMPLETIONS, EMBEDDINGS, RERANK, *_ = Operation
CLOUD = Origin("https", "cloud.example", 443)
HELLO = b'{"model":"m",  "messages":[{"role":"user","content":"caf\\u00e9"}], "x_mine":1.0}'


def a_call(operation: Operation = CHAT, body: bytes = HELLO, *headers: tuple[bytes, bytes]) -> Call:
    return read_call(operation, headers, body)


async def sent(call: Call, *, model: str = "m", route: str | None = None, **server) -> Request:
    """What the only server there is is sent for this call."""
    settings = {"url": "http://gpu1.example:8000"} | server
    pool, _ = a_pool(a_server("one", **settings), routes=[a_route("r", f"one/{route}")] if route else ())
    pool.probed(pool.members["one"], found(model))
    async with pool.lease(pool.catalog.find("r" if route else model).plan, Budget(5, 5)) as lease:
        return outgoing(call, lease)


def lines(request: Request) -> tuple[str, dict[str, str]]:
    first, *rest = request.head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    assert len(headers) == len(rest)  # none twice
    return first, headers


@pytest.mark.parametrize(
    ("kind", "url", "operation", "target", "origin"),
    [
        ("openai", "http://gpu1.example:8000", CHAT, "/v1/chat/completions", Origin("http", "gpu1.example", 8000)),
        ("openai", "https://cloud.example/api/v3", CHAT, "/api/v3/chat/completions", CLOUD),
        ("openai", "http://[::1]:8000/v1", EMBEDDINGS, "/v1/embeddings", Origin("http", "::1", 8000)),
        ("vllm", "http://gpu1.example", COMPLETIONS, "/v1/completions", Origin("http", "gpu1.example", 80)),
        ("ollama", "http://gpu1.example:11434/v1", CHAT, "/v1/chat/completions", Origin("http", "gpu1.example", 11434)),
        ("tei", "http://gpu1.example:3000", RERANK, "/rerank", Origin("http", "gpu1.example", 3000)),
        (None, "http://gpu1.example:8000", CHAT, "/v1/chat/completions", Origin("http", "gpu1.example", 8000)),
    ],
)
async def test_it_goes_to_the_servers_own_path(kind, url, operation, target, origin):
    bodies = {CHAT: HELLO, COMPLETIONS: b'{"model":"m","prompt":"a"}', EMBEDDINGS: b'{"model":"m","input":"a"}'}
    body = bodies.get(operation, b'{"model":"m","query":"a","documents":["b"]}')
    request = await sent(a_call(operation, body), kind=kind, url=url)
    first, headers = lines(request)
    assert first == f"POST {target} HTTP/1.1"
    assert request.origin == origin
    assert headers["host"] == origin.authority
    assert int(headers["content-length"]) == len(request.body)


async def test_the_body_goes_as_it_came():
    call = a_call()
    assert (await sent(call)).body is call.body


async def test_the_model_gets_the_servers_own_name_for_it_and_nothing_else_changes():
    request = await sent(a_call(body=HELLO.replace(b'"m"', b'"r"')), route="org/big:70b", model="org/big:70b")
    assert json.loads(request.body) == json.loads(HELLO) | {"model": "org/big:70b"}
    assert b'[{"role":"user","content":"caf\\u00e9"}]' in request.body
    assert b"1.0" in request.body


async def test_a_server_named_before_the_model_is_not_told_its_own_name():
    call = a_call(body=HELLO.replace(b'"m"', b'"one/m"'))
    pool, _ = a_pool(a_server("one"))
    async with pool.lease(pool.catalog.find("one/m").plan, Budget(5, 5)) as lease:
        assert json.loads(outgoing(call, lease).body)["model"] == "m"


async def test_nothing_of_the_callers_goes_on_but_what_concerns_the_server():
    secrets = [b"authorization", b"cookie", b"x-api-key", b"openai-organization", b"x-conversation-id", b"user-agent"]
    trace = (b"traceparent", b"00-aa-bb-01")
    call = a_call(CHAT, HELLO, *((name, b"callers-own") for name in secrets), trace, (b"x-request-id", b"abc"))
    request = await sent(call)
    _, headers = lines(request)
    assert b"callers-own" not in request.head
    assert headers["traceparent"] == "00-aa-bb-01"
    assert headers["x-request-id"] == "abc"
    assert headers["user-agent"].startswith("trillm/")
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(("stream", "accept"), [(True, "text/event-stream"), (False, "application/json")])
async def test_it_says_what_it_wants_back(stream, accept):
    body = json.dumps({"model": "m", "messages": [], "stream": stream}).encode()
    assert lines(await sent(a_call(body=body)))[1]["accept"] == accept


async def test_the_servers_key_comes_from_the_environment_as_it_is_now(monkeypatch):
    monkeypatch.setenv("GPU1_KEY", "sk-1")
    assert lines(await sent(a_call(), api_key_env="GPU1_KEY"))[1]["authorization"] == "Bearer sk-1"
    monkeypatch.delenv("GPU1_KEY")
    assert "authorization" not in lines(await sent(a_call(), api_key_env="GPU1_KEY"))[1]


@pytest.mark.skipif(os.name == "nt", reason="an environment of bytes")
async def test_a_key_that_is_not_utf_8_goes_as_it_is(monkeypatch):
    monkeypatch.setitem(os.environb, b"GPU1_KEY", b"sk-\xff")
    assert b"\r\nauthorization: Bearer sk-\xff\r\n" in (await sent(a_call(), api_key_env="GPU1_KEY")).head


async def test_no_key_is_in_a_repr(monkeypatch):
    monkeypatch.setenv("GPU1_KEY", "sk-secret")
    assert "sk-secret" not in repr(await sent(a_call(), api_key_env="GPU1_KEY"))


async def test_each_kind_is_sent_what_it_understands():
    body = b'{"model":"m","messages":[],"max_completion_tokens":5}'
    request = await sent(a_call(CHAT, body), kind="ollama")
    assert json.loads(request.body) == {"model": "m", "messages": [], "max_tokens": 5}


async def test_a_request_of_our_own_has_the_calls_id_and_the_servers_key(monkeypatch):
    monkeypatch.setenv("GPU1_KEY", "sk-1")
    pool, _ = a_pool(a_server("one", kind="tei", api_key_env="GPU1_KEY"))
    call = a_call(CHAT, HELLO, (b"x-request-id", b"abc"))
    async with pool.lease(pool.catalog.find("one/m").plan, Budget(5, 5)) as lease:
        first, headers = lines(asking(call, lease, RERANK, b"{}"))
    assert first == "POST /rerank HTTP/1.1"
    assert (headers["x-request-id"], headers["authorization"]) == ("abc", "Bearer sk-1")


# ── token counts of streams ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "members", "options"),
    [
        ("vllm", {"stream": True}, {"include_usage": True}),
        ("vllm", {"stream": True, "stream_options": None}, None),
        ("vllm", {"stream": True, "stream_options": {"include_usage": False}}, {"include_usage": False}),
        ("vllm", {"stream": False}, "absent"),
        ("openai", {"stream": True}, "absent"),
    ],
)
async def test_a_stream_is_counted_unless_its_caller_or_its_server_would_mind(kind, members, options):
    body = json.dumps({"model": "m", "messages": [], **members}).encode()
    request = await sent(a_call(CHAT, body), kind=kind)
    assert json.loads(request.body).get("stream_options", "absent") == options
