"""Opens connections to servers, TCP or TLS, and says in words why one could not be opened.

Whoever talks to a network takes a :data:`Connect` as an argument: tests put in-memory streams in its place.
"""

import ipaddress
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import cache, lru_cache
from urllib.parse import urlsplit

import trio
from attrs import frozen

from trillm.errors import UpstreamFailed
from trillm.wire.outbox import Outbox
from trillm.wire.stream import RawStream


@frozen(cache_hash=True)
class Origin:
    """Where connections go: scheme, host, port (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Return the origin of an http(s) URL, which is ASCII: the registry takes no other."""
        parts = urlsplit(url)
        return cls(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def authority(self) -> str:
        """The value of a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


Connect = Callable[[Origin], Awaitable[trio.abc.Stream]]


class CannotConnect(UpstreamFailed):
    """There is no connection to be had.

    Args:
        message: where and why.
        reason: why, for whom it is clear where.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


async def connect(origin: Origin, *, at: str | None = None, outbox: Outbox | None = None) -> trio.abc.Stream:
    """Open a TCP or TLS connection to ``origin``; no deadline of its own.

    Args:
        origin: whose certificate is asked for, if it is https.
        at: its address; None is whatever its name resolves to.
        outbox: for what is sent soon.

    Raises:
        CannotConnect: name not found, refused, unreachable, or the TLS handshake failed.
    """
    stream = await _connected(origin, client_context() if origin.scheme == "https" else None, at)
    if isinstance(stream, RawStream):
        stream.outbox = outbox
    return stream


async def connect_trusting(origin: Origin) -> trio.abc.Stream:
    """As :func:`connect`, to a server of this machine that is known by other means than its certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await _connected(origin, context if origin.scheme == "https" else None)


async def _connected(origin: Origin, context: ssl.SSLContext | None, at: str | None = None) -> trio.abc.Stream:
    try:
        raw = await _dialled(at or origin.host, origin.port)
    except (OSError, UnicodeError) as exc:
        why = _reason(exc)
        raise CannotConnect(f"cannot connect to {origin.authority}: {why}", why) from exc
    return raw if context is None else await _encrypted(raw, context, origin)


async def _dialled(host: str, port: int) -> RawStream:
    family = _family(host)
    if family is None:
        return RawStream.take_over(await trio.open_tcp_stream(host, port))  # it sets TCP_NODELAY
    # An address needs no name to be resolved and no race of several: without them it takes a third of the time.
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        await sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return RawStream(socket.socket(fileno=sock.detach()))


@lru_cache(maxsize=1024)
def _family(host: str) -> int | None:
    """Return the address family of an IP address without a scope, None for anything else."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return socket.AF_INET
    return None if address.scope_id else socket.AF_INET6


async def _encrypted(raw: RawStream, context: ssl.SSLContext, origin: Origin) -> trio.SSLStream[RawStream]:
    try:
        tls = trio.SSLStream(raw, context, server_hostname=origin.host, https_compatible=True)
        await tls.do_handshake()
    except trio.BrokenResourceError as exc:
        raw.close()
        why = _tls_reason(exc)
        raise CannotConnect(
            f"TLS handshake with {origin.authority} failed: {why}", f"TLS handshake failed: {why}"
        ) from exc
    except BaseException:
        raw.close()
        raise
    return tls


@cache
def client_context() -> ssl.SSLContext:
    """Trust what ``SSL_CERT_FILE`` names, else certifi's bundle. Read once: it takes 30 ms."""
    import certifi

    path = os.environ.get("SSL_CERT_FILE") or certifi.where()
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as exc:
        raise UpstreamFailed(f"TLS: the certificates in {path!r} cannot be read: {_in_words(exc)}") from exc


def _reason(exc: OSError | UnicodeError) -> str:
    """Say in a few words why a connection was not made."""
    match exc, exc.__cause__:
        case UnicodeError(), _:
            return "not a host name"
        case _, BaseExceptionGroup(exceptions=(*_, OSError() as last)):
            # Of several attempts the last: the first is IPv6, which often is not there at all.
            return _in_words(last)
        case OSError(), _:
            return _in_words(exc)


def _tls_reason(exc: trio.BrokenResourceError) -> str:
    match exc.__cause__:
        case ssl.SSLCertVerificationError() as cause:
            return f"certificate not accepted: {cause.verify_message}"
        case OSError() as cause:
            return _in_words(cause)
        case _:
            return "the server closed the connection"


def _in_words(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or str(exc)).replace("_", " ").lower()
    # Trio writes "Error connecting to ('127.0.0.1', 1): Connection refused".
    return (exc.strerror or str(exc)).rpartition(": ")[2].lower()
