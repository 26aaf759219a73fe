"""What goes on to the server and what comes back: nothing that is between two of the three, the same on every face."""

import json
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
from attrs import define, field
from support.running import chat
from support.servers import read_request

WHOLE = {"id": "c1", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Hi"}}]}
FRAME = {"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
LAST = {"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

#: Of the answer: what concerns the caller, and what does not.
PASSED = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
    "openai-processing-ms": "350",
    "openai-version": "2020-10-01",
    "x-compute-tokens": "5",
}
KEPT_BACK = {
    "connection": "keep-alive, X-Between",
    "x-between": "us",
    "keep-alive": "timeout=5",
    "proxy-authenticate": "Basic",
    "proxy-connection": "keep-alive",
    "trailer": "x-sum",
    "set-cookie": "a=b",
    "openai-organization": "operators-own",
    "openai-project": "operators-own",
    "anthropic-organization-id": "operators-own",
    "access-control-allow-origin": "*",
    "strict-transport-security": "max-age=1",
    "server": "other",
}
OURS = {"x-request-id": "theirs", "x-trillm-server": "theirs", "server-timing": "theirs;dur=1"}


@define
class Upstream:
    """A server that answers every chat with these headers, and remembers what it was sent."""

    url: str = ""
    requests: list[dict[str, str]] = field(factory=list)

    async def serve(self, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        await trio.serve_tcp(self.converse, 0, host="127.0.0.1", task_status=_Told(self, task_status))

    async def converse(self, stream: trio.SocketStream) -> None:
        while request := await read_request(stream):
            head, _, body = request.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            if first.startswith("POST /v1/chat/completions "):
                self.requests.append(dict(line.split(": ", 1) for line in lines))
                await stream.send_all(_answer(streamed=json.loads(body).get("stream", False)))
            else:
                await stream.send_all(_http("application/json", b'{"data": [{"id": "m"}]}', {}))

    @property
    def sent(self) -> dict[str, str]:
        """The headers of the only request there was."""
        (request,) = self.requests
        return request


@define
class _Told:
    upstream: Upstream
    outer: trio.TaskStatus

    def started(self, listeners) -> None:
        self.upstream.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        self.outer.started(self.upstream)


def _answer(*, streamed: bool) -> bytes:
    said = PASSED | KEPT_BACK | OURS
    if not streamed:
        return _http("application/json", json.dumps(WHOLE).encode(), said)
    frames = "".join(f"data: {json.dumps(frame)}\n\n" for frame in (FRAME, LAST)) + "data: [DONE]\n\n"
    return _http("text/event-stream", frames.encode(), said)


def _http(content_type: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = {"content-type": content_type, "content-length": len(body)} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body


@pytest.fixture
def before(run_trillm, monkeypatch):
    """Return a function that runs trillm before an upstream whose key is ``operators-key``."""
    monkeypatch.setenv("UPSTREAM_KEY", "operators-key")

    @asynccontextmanager
    async def run():
        async with trio.open_nursery() as nursery:
            upstream = await nursery.start(Upstream().serve)
            server = {"url": upstream.url, "kind": "openai", "api_key_env": "UPSTREAM_KEY"}
            async with run_trillm({}, document={"servers": {"one": server}}) as trillm:
                yield trillm, upstream
            nursery.cancel_scope.cancel()

    return run


ask = partial(chat, model="m")
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@STREAMED
async def test_nothing_of_the_callers_goes_on_but_what_concerns_the_server(before, face, stream):
    secrets = {
        "authorization": "Bearer callers-own",
        "x-api-key": "callers-own",
        "api-key": "callers-own",
        "cookie": "callers-own",
        "openai-organization": "callers-own",
        "openai-project": "callers-own",
        "anthropic-organization-id": "callers-own",
        "x-conversation-id": "callers-own",
        "x-forwarded-for": "10.0.0.1",
        "x-stainless-lang": "python",
        "accept-language": "de",
    }
    if not face.endswith("h2"):  # which has none of these
        secrets |= {
            "connection": "keep-alive, x-between",
            "x-between": "callers-own",
            "proxy-authorization": "callers-own",
            "proxy-connection": "keep-alive",
            "te": "trailers",
        }
    concerns = {"traceparent": "00-aa-bb-01", "openai-beta": "assistants=v2", "x-request-id": "mine-1"}
    async with before() as (trillm, upstream):
        reply = await trillm.client.post("/v1/chat/completions", json=ask(stream=stream), headers=secrets | concerns)
        assert reply.status_code == 200
    ours = {"host", "content-type", "content-length", "accept", "accept-encoding", "user-agent", "authorization"}
    assert upstream.sent.keys() == ours | concerns.keys()
    assert upstream.sent.items() >= concerns.items()
    assert upstream.sent["authorization"] == "Bearer operators-key"
    assert "callers-own" not in str(upstream.sent)


@STREAMED
async def test_of_the_answer_the_caller_gets_what_concerns_him(before, face, stream):
    async with before() as (trillm, _):
        reply = await trillm.post("/v1/chat/completions", ask(stream=stream), x_request_id="mine-1")
    assert reply.status_code == 200
    headers = dict(reply.headers)
    assert headers.items() >= PASSED.items()
    assert not {name for name, value in KEPT_BACK.items() if headers.get(name) == value}
    assert not headers.keys() & {"x-between", "set-cookie", "trailer", "openai-organization", "openai-project"}
    assert (headers["x-request-id"], headers["x-trillm-server"]) == ("mine-1", "one")
    assert "first-token;dur=" in headers["server-timing"]
    assert "theirs" not in str(headers)
    assert all(len(reply.headers.get_list(name)) == 1 for name in headers)


async def test_a_request_id_is_the_same_in_the_answer_and_at_the_server(before):
    async with before() as (trillm, upstream):
        reply = await trillm.post("/v1/chat/completions", ask())
    assert reply.headers["x-request-id"] == upstream.sent["x-request-id"]
    assert reply.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("GET", "/v1/models/m"), ("GET", "/v1/models/unknown"), ("GET", "/nowhere"), ("GET", "/")],
)
async def test_every_answer_has_the_callers_request_id(before, method, path):
    async with before() as (trillm, _):
        reply = await trillm.client.request(method, path, headers={"x-request-id": "mine-1"})
    assert reply.headers.get_list("x-request-id") == ["mine-1"]


async def test_an_error_has_the_callers_request_id(before):
    async with before() as (trillm, _):
        replies: list[httpx.Response] = [
            await trillm.post("/v1/chat/completions", body, x_request_id="mine-1")
            for body in (ask(model="unknown"), {"model": "m"}, [])
        ]
    assert [reply.headers.get_list("x-request-id") for reply in replies] == [["mine-1"]] * 3
