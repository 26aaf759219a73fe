"""Opening connections, on loopback."""

import gc
import socket
import ssl
from functools import partial

import pytest
import trio
import trio.testing
import trustme
from support.cancelling import run_cancelled_at

from trillm.errors import UpstreamFailed
from trillm.wire import net
from trillm.wire.net import Origin, connect
from trillm.wire.stream import RawStream, close_now

# ── origins ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("http://a.example", Origin("http", "a.example", 80), "a.example"),
        ("https://a.example/v1", Origin("https", "a.example", 443), "a.example"),
        ("http://a.example:443", Origin("http", "a.example", 443), "a.example:443"),
        ("https://a.example:443", Origin("https", "a.example", 443), "a.example"),
        ("HTTP://A.Example:8000/v1?x#y", Origin("http", "a.example", 8000), "a.example:8000"),
        ("http://127.0.0.1:11434", Origin("http", "127.0.0.1", 11434), "127.0.0.1:11434"),
        ("http://[::1]:8080/", Origin("http", "::1", 8080), "[::1]:8080"),
        ("http://[::1]", Origin("http", "::1", 80), "[::1]"),
    ],
)
def test_an_origin_is_where_a_url_leads(url, origin, authority):
    assert Origin.of(url) == origin
    assert origin.authority == authority


# ── connecting ──────────────────────────────────────────────────────────────────────────────────────────────────


async def listen(nursery, handler) -> int:
    (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
    return listener.socket.getsockname()[1]


async def echo(stream: trio.abc.Stream) -> None:
    async with stream:
        while data := await stream.receive_some():
            await stream.send_all(data)


async def hang_up(stream: trio.abc.Stream) -> None:
    await stream.aclose()


async def answer_plainly(stream: trio.abc.Stream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await stream.aclose()


async def test_a_plain_connection(nursery):
    stream = await connect(Origin("http", "127.0.0.1", await listen(nursery, echo)))
    assert isinstance(stream, RawStream)
    assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await stream.send_all(b"abc")
    assert await stream.receive_some() == b"abc"
    close_now(stream)
    nursery.cancel_scope.cancel()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("at", [None, "127.0.0.1"])
async def test_an_address_is_dialled_without_asking_for_names(nursery, at):
    trio.socket.set_custom_hostname_resolver(Resolver())
    listeners = await nursery.start(partial(trio.serve_tcp, trio.aclose_forcefully, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    stream = await connect(Origin("http", "gpu2.example" if at else "127.0.0.1", port), at=at)
    assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    close_now(stream)
    nursery.cancel_scope.cancel()


async def test_a_refused_connection_is_said_in_words():
    port = free_port()
    with pytest.raises(UpstreamFailed) as caught:
        await connect(Origin("http", "127.0.0.1", port))
    assert str(caught.value) == f"cannot connect to 127.0.0.1:{port}: connection refused"


async def test_a_name_that_is_none_is_said_in_words():
    with pytest.raises(UpstreamFailed, match="not a host name"):
        await connect(Origin("http", "a" * 70 + ".example", 80))


class Resolver(trio.abc.HostnameResolver):
    """Knows one name."""

    def __init__(self, *addresses: str):
        self.addresses = addresses

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 - Trio's name
        if host != b"gpu1.example":  # Trio has encoded it
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, proto, "", (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


async def test_a_name_that_nobody_knows_is_said_in_words():
    trio.socket.set_custom_hostname_resolver(Resolver())
    with pytest.raises(UpstreamFailed, match=r"cannot connect to gpu2\.example: name or service not known"):
        await connect(Origin("http", "gpu2.example", 80))


async def test_of_several_attempts_the_last_is_reported():
    # No network has the first: what an IPv6 address is to a machine without IPv6.
    trio.socket.set_custom_hostname_resolver(Resolver("255.255.255.255", "127.0.0.1"))
    with pytest.raises(UpstreamFailed, match=r"cannot connect to gpu1\.example.*: connection refused"):
        await connect(Origin("http", "gpu1.example", free_port()))


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """A certificate authority that is trusted."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    net.client_context.cache_clear()
    yield ca
    net.client_context.cache_clear()


def encrypted(ca: trustme.CA, *names: str, serve=echo):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(*names).configure_cert(context)

    async def handler(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
            await serve(tls)
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(tls)

    return handler


async def test_an_encrypted_connection(nursery, authority):
    port = await listen(nursery, encrypted(authority, "127.0.0.1"))
    stream = await connect(Origin("https", "127.0.0.1", port))
    await stream.send_all(b"abc")
    assert await stream.receive_some() == b"abc"
    close_now(stream)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("trusted", "names", "reason"),
    [
        (True, ["other.example"], "certificate not accepted: .*not valid for '127.0.0.1'"),
        (False, ["127.0.0.1"], "certificate not accepted: unable to get local issuer certificate"),
    ],
)
async def test_a_certificate_that_is_not_accepted_is_said_in_words(nursery, authority, trusted, names, reason):
    issuer = authority if trusted else trustme.CA()
    port = await listen(nursery, encrypted(issuer, *names))
    with pytest.raises(UpstreamFailed, match=rf"TLS handshake with 127.0.0.1:{port} failed: {reason}"):
        await connect(Origin("https", "127.0.0.1", port))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("handler", "reason"), [(answer_plainly, "wrong version number"), (hang_up, "unexpected eof|reset|closed")]
)
async def test_a_server_that_does_not_speak_tls_is_said_in_words(nursery, authority, handler, reason):
    port = await listen(nursery, handler)
    with pytest.raises(UpstreamFailed, match=rf"failed: .*({reason})"):
        await connect(Origin("https", "127.0.0.1", port))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_certificates_that_cannot_be_read_are_said_in_words(authority, monkeypatch, tmp_path, content):
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(UpstreamFailed, match=r"TLS: the certificates in '.*broken.pem' cannot be read: no "):
        await connect(Origin("https", "127.0.0.1", 1))


async def test_without_a_setting_the_public_authorities_are_trusted(nursery, authority, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    port = await listen(nursery, encrypted(authority, "127.0.0.1"))
    with pytest.raises(UpstreamFailed, match="certificate not accepted"):
        await connect(Origin("https", "127.0.0.1", port))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("scheme", "least_waits"), [("http", 1), ("https", 3)])
async def test_cancelled_at_any_wait_connecting_leaves_no_connection(authority, scheme, least_waits):
    async def until_the_client_leaves(stream):
        await stream.receive_some()
        await trio.aclose_forcefully(stream)

    async def connect_and_close():
        close_now(await connect(origin))

    encrypted_handler = encrypted(authority, "127.0.0.1", serve=until_the_client_leaves)
    handler = encrypted_handler if scheme == "https" else until_the_client_leaves
    net.client_context()  # loading the certificates is no wait
    # It ends when each handler has seen its client leave.
    with trio.fail_after(10):
        async with trio.open_nursery() as handlers, trio.open_nursery() as accepting:
            serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1", handler_nursery=handlers)
            (listener,) = await accepting.start(serve)
            origin = Origin(scheme, "127.0.0.1", listener.socket.getsockname()[1])
            wait = 1
            while await run_cancelled_at(wait, connect_and_close):
                gc.collect()  # a forgotten socket is an error, by its ResourceWarning
                wait += 1
            accepting.cancel_scope.cancel()
    assert wait > least_waits
