"""The control plane's client: what it sends, what it returns, and why it failed, in words."""

import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import msgspec
import pytest
import trio
import trustme
from support.cancelling import run_cancelled_at
from support.network import Network
from support.servers import Servers, ok

from trillm.errors import UpstreamFailed
from trillm.wire import control
from trillm.wire.control import KEEP_IDLE_S, Answer, open_control
from trillm.wire.net import client_context

Handler = Callable[[trio.abc.Stream], Awaitable[None]]


@pytest.fixture
async def serve(nursery):
    """Return a function that serves connections with a handler on a port of its own and returns the port."""

    async def start(handler: Handler) -> int:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        return listeners[0].socket.getsockname()[1]

    return start


def says(answer: bytes) -> Handler:
    async def handler(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    return handler


class Recorder:
    """Remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200)


async def test_an_answer_holds_status_lower_case_headers_and_body():
    network = Network(lambda _: httpx.Response(418, headers={"X-Tea": "Pot"}, json={"a": 1}))
    async with open_control(network) as http:
        answer = await http.get("http://gpu1.example/x")
    assert (answer.status, answer.header(b"x-tea"), answer.json()) == (418, b"Pot", {"a": 1})
    assert answer.header(b"absent") == b""


async def test_a_key_goes_out_as_a_bearer_token_and_only_if_there_is_one():
    recorder = Recorder()
    async with open_control(Network(recorder)) as http:
        await http.get("http://gpu1.example/")
        await http.get("http://gpu1.example/", api_key="schlüssel")
    without, with_key = recorder.requests
    assert "authorization" not in without.headers
    assert dict(with_key.headers.raw)[b"authorization"] == "Bearer schlüssel".encode()


async def test_post_sends_json():
    recorder = Recorder()
    async with open_control(Network(recorder)) as http:
        await http.post("http://gpu1.example/api/show", {"model": "m"}, api_key="k")
    (request,) = recorder.requests
    assert (request.method, request.content) == ("POST", b'{"model":"m"}')
    assert request.headers["content-type"] == "application/json"


async def test_proxies_of_the_environment_are_ignored(monkeypatch, serve):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    port = await serve(says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))
    async with open_control() as http:
        assert (await http.get(f"http://127.0.0.1:{port}/")).body == b"ok"


async def test_a_redirect_is_an_answer_like_any_other():
    network = Network(lambda _: httpx.Response(307, headers={"location": "http://b.example/"}))
    async with open_control(network) as http:
        assert (await http.get("http://a.example/")).status == 307


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"a":\xff}', b'"\xc3"'])
def test_a_body_that_is_not_json_reads_as_none(body):
    assert Answer(200, (), body).json() is None


def test_a_body_of_another_shape_reads_as_none():
    class Shape(msgspec.Struct):
        id: str

    assert Answer(200, (), b'{"id":1}').read(Shape) is None
    assert Answer(200, (), b'{"id":"x","more":2}').read(Shape) == Shape("x")


# ── why there was no answer ─────────────────────────────────────────────────────────────────────────────────


async def reason(url: str, **more) -> str:
    async with open_control() as http:
        with pytest.raises(UpstreamFailed) as failed:
            await http.get(url, **more)
    assert "\n" not in failed.value.message
    return failed.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_listens(host):
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        assert await reason(f"http://{host}:{unused.getsockname()[1]}/") == "connection refused"


async def test_no_such_name():
    trio.socket.set_custom_hostname_resolver(NoNames())
    assert await reason("http://gpu1.example/v1/models") == "name or service not known"


class NoNames(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *_args):
        raise trio.socket.gaierror(-2, "Name or service not known")

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.mark.parametrize(
    "url", ["nope", "ftp://gpu1.example/", "ftp://gpu1.example:80/", "http://", "http://gpu1.example:port/"]
)
async def test_what_is_no_web_address(url):
    assert await reason(url) == f"not an http(s) URL: {url}"


async def test_what_is_no_http_server(serve):
    port = await serve(says(b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert "is not valid HTTP" in await reason(f"http://127.0.0.1:{port}/")


async def test_a_server_that_hangs_up_in_the_middle(serve):
    port = await serve(says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"))
    assert "in the middle of its answer" in await reason(f"http://127.0.0.1:{port}/")


async def test_a_certificate_that_nobody_vouches_for(serve):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    port = await serve(tls(context))
    said = await reason(f"https://127.0.0.1:{port}/")
    assert said.startswith("TLS handshake failed: certificate not accepted: ")
    assert "issuer" in said


def tls(context: ssl.SSLContext) -> Handler:
    async def handler(stream: trio.abc.Stream) -> None:
        try:
            await trio.SSLStream(stream, context, server_side=True).do_handshake()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(stream)

    return handler


async def test_a_certificate_that_ssl_cert_file_vouches_for(monkeypatch, tmp_path, serve):
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    # Not the one that is kept: the next test trusts somebody else.
    monkeypatch.setattr("trillm.wire.net.client_context", client_context.__wrapped__)

    async def handler(stream: trio.abc.Stream) -> None:
        await says(b"HTTP/1.1 204 No Content\r\n\r\n")(trio.SSLStream(stream, context, server_side=True))

    port = await serve(handler)
    async with open_control() as http:
        assert (await http.get(f"https://127.0.0.1:{port}/")).status == 204


async def test_https_where_plain_http_is_spoken(serve):
    port = await serve(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert await reason(f"https://127.0.0.1:{port}/") == "TLS handshake failed: wrong version number"


async def test_a_key_that_cannot_be_sent_is_not_shown(serve):
    port = await serve(says(b""))
    said = await reason(f"http://127.0.0.1:{port}/", api_key="secret\nsecond line")
    assert "API key" in said
    assert "secret" not in said


# ── how much, how long ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("framing", [b"content-length: 100000\r\n", b"connection: close\r\n"])
async def test_an_answer_over_the_limit_is_refused_and_leaves_nothing_behind(monkeypatch, serve, framing):
    monkeypatch.setattr(control, "MAX_ANSWER_BYTES", 50_000)

    async def endless(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + b"x" * 60_000)
        await stream.receive_some()

    port = await serve(endless)
    async with open_control() as http:
        with pytest.raises(UpstreamFailed, match="larger than 50000 bytes"), trio.fail_after(5):
            await http.get(f"http://127.0.0.1:{port}/")


async def test_a_silent_server_is_left_when_the_callers_deadline_passes(serve):
    async def silent(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass

    port = await serve(silent)
    async with open_control() as http:
        with trio.move_on_after(0.05) as scope:
            await http.get(f"http://127.0.0.1:{port}/")
    assert scope.cancelled_caught


@pytest.mark.parametrize("ask", ["get", "post", "get_at"])
async def test_cancelled_at_any_wait_it_leaves_no_connection(nursery, autojump_clock, ask):
    servers = Servers(nursery, [[[0.1, ok(b"{}")]]])

    async def connect(origin, *, at=None):
        return await servers.connect(origin)

    async def use() -> None:
        async with open_control(connect) as http:
            await getattr(http, ask)("http://a.example/", *{"post": [{}], "get_at": ["10.0.0.1"]}.get(ask, []))

    wait = 1
    while await run_cancelled_at(wait, use):
        assert await servers.still_open() == 0
        wait += 1
    assert wait > 3
    assert await servers.still_open() == 0


async def test_the_questions_of_a_moment_share_a_connection_and_later_ones_do_not(autojump_clock):
    network = Network(lambda _: httpx.Response(200))
    async with open_control(network) as http:
        await http.get("http://a.example/")
        await http.post("http://a.example/x", {})
        assert len(network.addresses) == 1
        await trio.sleep(KEEP_IDLE_S + 0.1)
        await http.get("http://a.example/")
        assert len(network.addresses) == 2


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://a.example", "/"),
        ("http://a.example/a b\u00e4?q=\u00e4 b#frag", "/a%20b%C3%A4?q=%C3%A4%20b"),
        ("http://a.example/a%20b?x=%2F", "/a%20b?x=%2F"),
        ("http://a.example/a\r\nx: y", "/ax:%20y"),
    ],
)
async def test_whatever_a_url_holds_what_goes_out_is_one_request(url, target):
    recorder = Recorder()
    async with open_control(Network(recorder)) as http:
        await http.get(url)
    (request,) = recorder.requests
    assert request.url.raw_path.decode() == target
    assert "x" not in request.headers
