"""The control plane's HTTP: small requests that find out what a server is and how it is doing.

It has no deadlines (callers enter cancel scopes), never follows a redirect, and keeps a connection for a moment only: a
probe's few questions share one, and the next probe shows that new ones are still accepted. Callers' requests do not
pass here: :mod:`trillm.wire.exchange` carries those.
"""

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import trio
from attrs import define, frozen

from trillm.budget import Budget
from trillm.errors import UpstreamFailed
from trillm.wire import net
from trillm.wire.exchange import Connections, Request
from trillm.wire.net import Origin

MAX_ANSWER_BYTES = 8 * 1024 * 1024
# Shorter than the idle limit of every server we know (5 s mostly), so that none closes as we reuse.
KEEP_IDLE_S = 1.0

#: What decoding foreign bytes can raise: msgspec lets Python's own errors for bad UTF-8 and deep nesting through.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

T = TypeVar("T")


@frozen
class Answer:
    """What a server answered.

    Args:
        status: the HTTP status; 0 stands for no answer at all.
        headers: names in lower case.
        body: at most ``MAX_ANSWER_BYTES``.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def json(self) -> Any:
        """Return the body as JSON, or None if it is not."""
        return self.read(object)

    def read(self, shape: type[T]) -> T | None:
        """Return the body as a ``shape`` that msgspec understands, or None if it is not of that shape."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except NOT_JSON:
            return None

    def header(self, name: bytes) -> bytes:
        """Return a header's value, or ``b""``."""
        return next((value for known, value in self.headers if known == name), b"")


class Connect(Protocol):
    """Opens a connection, as :func:`trillm.wire.net.connect` does."""

    async def __call__(self, origin: Origin, *, at: str | None = None) -> trio.abc.Stream:
        """Connect to ``origin``, or to what is at another address in its name."""


@define
class Control:
    """Asks servers. Made by :func:`open_control`."""

    _connections: Connections
    _connect: Connect

    async def get(self, url: str, *, api_key: str | None = None) -> Answer:
        """GET ``url`` and return the answer, whatever its status.

        Raises:
            UpstreamFailed: there was no answer, or it is too large; the message is the reason, one line.
        """
        return await _ask(self._connections, "GET", url, api_key)

    async def get_at(self, url: str, address: str) -> Answer:
        """GET ``url`` from the server at ``address``, whatever its name resolves to. Otherwise as :meth:`get`."""
        # Connections are kept by name: what another address answered must not be taken for this one's.
        with _connections(partial(self._connect, at=address)) as connections:
            return await _ask(connections, "GET", url, None)

    async def post(self, url: str, json: Any, *, api_key: str | None = None) -> Answer:
        """POST ``json`` to ``url``. Otherwise as :meth:`get`."""
        return await _ask(self._connections, "POST", url, api_key, msgspec.json.encode(json))


@asynccontextmanager
async def open_control(connect: Connect = net.connect) -> AsyncIterator[Control]:
    """Open the client, close its connections at the end.

    Args:
        connect: opens them; tests inject in-memory ones.
    """
    with _connections(connect) as connections:
        yield Control(connections, connect)


def _connections(connect: net.Connect) -> Connections:
    return Connections(connect, connect_s=math.inf, keep_alive_s=KEEP_IDLE_S)


async def _ask(connections: Connections, method: str, url: str, api_key: str | None, body: bytes = b"") -> Answer:
    origin, target = _target(url)
    request = Request(origin, _head(method, origin, target, api_key, len(body)), body)
    try:
        async with connections.exchange(request, Budget(math.inf, stall_s=math.inf)) as exchange:
            answer = await exchange.read(MAX_ANSWER_BYTES)
            return Answer(exchange.status, tuple(exchange.headers), answer)
    except net.CannotConnect as exc:
        raise net.CannotConnect(exc.reason, exc.reason) from exc  # whoever asked knows where


def _target(url: str) -> tuple[Origin, str]:
    """Return where ``url`` leads: to whom, and with which path and query.

    Raises:
        UpstreamFailed: it is no http(s) URL.
    """
    try:
        parts = urlsplit(url)
        name = parts.hostname or ""
        host = name if name.isascii() else name.encode("idna").decode()
        port = parts.port
    except ValueError as exc:  # UnicodeError is one
        raise UpstreamFailed(f"not an http(s) URL: {url}") from exc
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host):
        raise UpstreamFailed(f"not an http(s) URL: {url}")
    query = f"?{quote(parts.query, safe=_KEPT)}" if parts.query else ""
    return Origin(parts.scheme, host, port or _PORTS[parts.scheme]), quote(parts.path or "/", safe=_KEPT) + query


_PORTS = {"http": 80, "https": 443}
# What a URL may hold is sent as it is (RFC 3986), "%" because it is escaped already.
_KEPT = "/?:@!$&'()*+,;=-._~%"
_HOST = re.compile(r"[^\s/?#@\\\x00-\x1f\x7f]+")


def _head(method: str, origin: Origin, target: str, api_key: str | None, body_bytes: int) -> bytes:
    # Unpacked, a small answer can be any size: ask for it plain.
    lines = [f"{method} {target} HTTP/1.1", f"host: {origin.authority}", "accept: */*", "accept-encoding: identity"]
    lines.append("user-agent: trillm")
    if body_bytes:
        lines += ["content-type: application/json", f"content-length: {body_bytes}"]
    if api_key is not None:
        if re.search(r"[\r\n\0]", api_key):
            raise UpstreamFailed("the request cannot be sent: is there a line break in the API key?")
        lines.append(f"authorization: Bearer {api_key}")
    return "\r\n".join([*lines, "", ""]).encode(errors="surrogateescape")
