"""The control plane's client: what it sends, what it returns, and why it failed, in words."""

import gc
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import msgspec
import pytest
import trio
import trustme

from trillm.errors import UpstreamFailed
from trillm.wire import control
from trillm.wire.control import Answer, open_control
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


class Recorder(httpx.MockTransport):
    """httpx's own stand-in for the network; remembers the requests."""

    def __init__(self, **response) -> None:
        self.requests: list[httpx.Request] = []
        super().__init__(lambda request: self.requests.append(request) or httpx.Response(200, **response))


async def test_an_answer_holds_status_lower_case_headers_and_body():
    transport = httpx.MockTransport(lambda _: httpx.Response(418, headers={"X-Tea": "Pot"}, json={"a": 1}))
    async with open_control(transport) as http:
        answer = await http.get("http://gpu1.example/x")
    assert (answer.status, answer.header(b"x-tea"), answer.json()) == (418, b"Pot", {"a": 1})
    assert answer.header(b"absent") == b""


async def test_a_key_goes_out_as_a_bearer_token_and_only_if_there_is_one():
    transport = Recorder()
    async with open_control(transport) as http:
        await http.get("http://gpu1.example/")
        await http.get("http://gpu1.example/", api_key="schlüssel")
    without, with_key = transport.requests
    assert "authorization" not in without.headers
    assert dict(with_key.headers.raw)[b"authorization"] == "Bearer schlüssel".encode()


async def test_post_sends_json():
    transport = Recorder()
    async with open_control(transport) as http:
        await http.post("http://gpu1.example/api/show", {"model": "m"}, api_key="k")
    (request,) = transport.requests
    assert (request.method, request.content) == ("POST", b'{"model":"m"}')
    assert request.headers["content-type"] == "application/json"


async def test_proxies_of_the_environment_are_ignored(monkeypatch, serve):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    port = await serve(says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))
    async with open_control() as http:
        assert (await http.get(f"http://127.0.0.1:{port}/")).body == b"ok"


async def test_a_redirect_is_an_answer_like_any_other():
    transport = httpx.MockTransport(lambda _: httpx.Response(307, headers={"location": "http://b.example/"}))
    async with open_control(transport) as http:
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
    assert failed.value.__cause__ is not None
    assert "\n" not in failed.value.message
    return failed.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_listens(host):
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        assert await reason(f"http://{host}:{unused.getsockname()[1]}/") == "connection refused"


async def test_no_such_name():
    trio.socket.set_custom_hostname_resolver(NoNames())
    assert await reason("http://gpu1.example/v1/models") == "name not found: gpu1.example"


class NoNames(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *_args):
        raise trio.socket.gaierror(-2, "Name or service not known")

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.mark.parametrize("url", ["nope", "ftp://gpu1.example/", "http://", "http://gpu1.example:port/"])
async def test_what_is_no_web_address(url):
    assert await reason(url) == f"not an http(s) URL: {url}"


async def test_what_is_no_http_server(serve):
    port = await serve(says(b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert (await reason(f"http://127.0.0.1:{port}/")).startswith("not an HTTP server, or it broke off: ")


async def test_a_server_that_hangs_up_in_the_middle(serve):
    port = await serve(says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"))
    assert "broke off" in await reason(f"http://127.0.0.1:{port}/")


async def test_a_certificate_that_nobody_vouches_for(serve):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    port = await serve(tls(context))
    said = await reason(f"https://127.0.0.1:{port}/")
    assert said.startswith("TLS: certificate not accepted: ")
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
    monkeypatch.setattr("trillm.wire.control.client_context", client_context.__wrapped__)

    async def handler(stream: trio.abc.Stream) -> None:
        await says(b"HTTP/1.1 204 No Content\r\n\r\n")(trio.SSLStream(stream, context, server_side=True))

    port = await serve(handler)
    async with open_control() as http:
        assert (await http.get(f"https://127.0.0.1:{port}/")).status == 204


async def test_https_where_plain_http_is_spoken(serve):
    port = await serve(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert await reason(f"https://127.0.0.1:{port}/") == "TLS: wrong version number"


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
    gc.collect()  # an abandoned generator would be a warning, and warnings fail here


async def test_a_silent_server_is_left_when_the_callers_deadline_passes(serve):
    async def silent(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass

    port = await serve(silent)
    async with open_control() as http:
        with trio.move_on_after(0.05) as scope:
            await http.get(f"http://127.0.0.1:{port}/")
    assert scope.cancelled_caught
    gc.collect()


def test_importing_it_does_not_import_httpx():
    code = "import sys, trillm.wire.control; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
