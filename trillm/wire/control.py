"""The control plane's HTTP: small requests that find out what a server is and how it is doing.

The only module that imports httpx, and only once a client is opened: its import is slower than most commands
may be. It owns one ``httpx.AsyncClient``, has no deadlines (callers enter cancel scopes) and never follows a
redirect. Callers' requests do not pass here: :mod:`trillm.wire.exchange` carries those.
"""

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import trio
from attrs import define, frozen

from trillm.errors import UpstreamFailed
from trillm.wire.net import client_context

if TYPE_CHECKING:
    import httpx

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


@define
class Control:
    """Asks servers. Made by :func:`open_control`."""

    _client: "httpx.AsyncClient"

    async def get(self, url: str, *, api_key: str | None = None) -> Answer:
        """GET ``url`` and return the answer, whatever its status.

        Raises:
            UpstreamFailed: there was no answer, or it is too large; the message is the reason, one line.
        """
        return await self._ask("GET", url, _headers(api_key))

    async def get_at(self, url: str, address: str) -> Answer:
        """GET ``url`` from the server at ``address``, whatever its name resolves to. Otherwise as :meth:`get`."""
        import httpx

        target = httpx.URL(url)
        # httpx keeps connections by address: another name's must not be taken for this one's.
        headers = _headers(None) | {b"host": target.netloc, b"connection": b"close"}
        extensions = {"sni_hostname": target.host}  # and the certificate is checked for that name
        return await self._ask("GET", target.copy_with(host=address), headers, extensions=extensions)

    async def post(self, url: str, json: Any, *, api_key: str | None = None) -> Answer:
        """POST ``json`` to ``url``. Otherwise as :meth:`get`."""
        headers = _headers(api_key) | {b"content-type": b"application/json"}
        return await self._ask("POST", url, headers, msgspec.json.encode(json))

    async def _ask(
        self,
        method: str,
        url: "str | httpx.URL",
        headers: dict[bytes, bytes],
        body: bytes | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> Answer:
        import httpx

        try:
            async with self._client.stream(
                method, url, headers=headers, content=body, extensions=extensions
            ) as response:
                return Answer(response.status_code, _lowered(response), await _body(response))
        except (httpx.RequestError, httpx.InvalidURL) as exc:
            raise UpstreamFailed(_reason(exc, str(url))) from exc


@asynccontextmanager
async def open_control(transport: "httpx.AsyncBaseTransport | None" = None) -> AsyncIterator[Control]:
    """Open the client, close it and its connections at the end.

    Args:
        transport: takes the network's place in tests.
    """
    import httpx

    # No limit: httpx 0.28 loses a slot of its pool when a request is cancelled while it waits for one.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_IDLE_S)
    async with httpx.AsyncClient(
        transport=transport,
        verify=client_context(),
        limits=limits,
        timeout=None,  # noqa: S113  # deadlines are the callers' cancel scopes
        trust_env=False,
    ) as client:
        yield Control(client)


def _headers(api_key: str | None) -> dict[bytes, bytes]:
    # Unpacked, a small answer can be any size: ask for it plain.
    headers = {b"accept": b"*/*", b"accept-encoding": b"identity", b"user-agent": b"trillm"}
    if api_key is not None:
        headers[b"authorization"] = b"Bearer " + api_key.encode(errors="surrogateescape")
    return headers


def _lowered(response: "httpx.Response") -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower(), value) for name, value in response.headers.raw)


async def _body(response: "httpx.Response") -> bytes:
    body = bytearray()
    # Leaving the loop early would abandon httpx's nested generators half-run; cancelled, they unwind.
    with trio.CancelScope() as scope:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                scope.cancel()
    if len(body) > MAX_ANSWER_BYTES:
        raise UpstreamFailed(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _reason(exc: Exception, url: str) -> str:
    """Say in one line, for a person, why there was no answer. Never quotes headers: they hold keys."""
    import httpx

    match exc, _first_cause(exc):
        case _, OSError() as cause:
            return _system_reason(cause, exc)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol(), _:
            return f"not an http(s) URL: {url}"
        case httpx.LocalProtocolError(), _:
            return "the request cannot be sent: is there a line break in the API key?"
        case httpx.RemoteProtocolError(), _:
            return f"not an HTTP server, or it broke off: {_line(exc)}"
        case _:
            return f"the connection broke: {_line(exc)}"


def _system_reason(cause: OSError, exc: Exception) -> str:
    match cause:
        case ssl.SSLCertVerificationError():
            return f"TLS: certificate not accepted: {cause.verify_message}"
        case ssl.SSLError():
            return f"TLS: {(cause.reason or 'handshake failed').replace('_', ' ').lower()}"
        case socket.gaierror():
            return f"name not found: {_host(exc)}"
        case _:
            return (os.strerror(cause.errno) if cause.errno else _line(cause)).lower()


def _host(exc: Exception) -> str:
    import httpx

    return exc.request.url.host if isinstance(exc, httpx.RequestError) else "?"


def _first_cause(exc: BaseException) -> BaseException:
    """Walk down to what went wrong first; of several attempts to connect, take the first."""
    if isinstance(exc, BaseExceptionGroup):
        return _first_cause(exc.exceptions[0])
    # httpcore takes the cause off what it raises ("from None"): there only the context still knows it.
    below = exc.__cause__ or (None if isinstance(exc, OSError) else exc.__context__)
    return exc if below is None else _first_cause(below)


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
