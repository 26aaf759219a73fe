"""Streamable HTTP to an upstream: the SDK's client transport as a channel of our own kind, network trouble contained.

The one module that touches the client half of the SDK, which is provisional: the transport is used as it is, without
the SDK's session, so that whatever an upstream says passes through. Two things are added. The SDK lets a connection
that cannot be made end the whole transport, and looks for a broken stream's rest for seconds: here the first becomes
that request's error, and the second too, once nobody listens at the address any more. Importing it is slow.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import msgspec
import trio
from attrs import define, field
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp_types.jsonrpc import jsonrpc_message_adapter

from trillm.mcp.errors import CONNECTION_CLOSED, INVALID_REQUEST
from trillm.mcp.session import META, MODERN, Params
from trillm.registry.mcpentries import McpServer
from trillm.wire.net import client_context

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: Whether anybody listens is found out within this time.
KNOCK_S = 1.0
#: How long the end of an answered stream is waited for.
LAST_BYTES_S = 0.05

#: A tool's input schema, if it is known.
Schemas = Callable[[str], Params | None]


@define(eq=False)
class HttpChannel:
    """Messages to and from one server. Made by :func:`open_http`.

    Args:
        version: agreed on in the old era; of the new one each request brings its own.
        problem: why the last request got no answer of the server's own, or None.
        expired: whether the server has said that it does not know the session any more.
    """

    schemas: Schemas
    version: str | None = field(default=None, init=False)
    problem: str | None = field(default=None, init=False)
    expired: bool = field(default=False, init=False)
    _read: Any = field(default=None, init=False)
    _write: Any = field(default=None, init=False)

    async def receive(self) -> bytes | None:
        """Wait for a message; None is the end."""
        while True:
            try:
                item = await self._read.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
                return None
            if isinstance(item, SessionMessage):
                return item.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
            log.debug("mcp upstream sent what is no message: %r", item)

    async def send(self, message: bytes) -> None:
        """Send a message on a request of its own.

        Raises:
            trio.BrokenResourceError: the transport has ended.
        """
        headers = self._headers(msgspec.json.decode(message))
        item = SessionMessage(
            jsonrpc_message_adapter.validate_json(message, by_name=False),
            ClientMessageMetadata(headers=headers) if headers else None,
        )
        try:
            await self._write.send(item)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise trio.BrokenResourceError from exc

    def _headers(self, message: Params) -> dict[str, str]:
        """Return the headers that repeat what the message says, as its era wants them."""
        method, params = message.get("method", ""), message.get("params") or {}
        version = (params.get("_meta") or {}).get(f"{META}protocolVersion") or self.version
        if version is None or method == "initialize":
            return {}
        headers = {MCP_PROTOCOL_VERSION_HEADER: version}
        if version < MODERN or "id" not in message or not method:
            return headers
        headers[MCP_METHOD_HEADER] = method
        name = params.get(NAME_BEARING_METHODS.get(method, ""))
        if isinstance(name, str):
            headers[MCP_NAME_HEADER] = encode_header_value(name)
            schema = self.schemas(name) if method == "tools/call" else None
            if schema is not None:
                headers |= mcp_param_headers(x_mcp_header_map(schema), params.get("arguments") or {})
        return headers


@asynccontextmanager
async def open_http(server: McpServer, schemas: Schemas, auth: httpx2.Auth | None = None) -> AsyncIterator[HttpChannel]:
    """Speak Streamable HTTP with ``server`` for the time of the block; connects when the first message is sent.

    Args:
        server: with a url.
        schemas: of its tools, for those whose arguments are repeated in headers.
        auth: what signs requests, after ``trillm mcp login``.

    Raises:
        ConfigError: a header's environment variable is not set.
    """
    channel = HttpChannel(schemas)
    # No limit on connections: each call has one, and calls are bounded where they come in.
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
    network = httpx2.AsyncHTTPTransport(verify=client_context(), trust_env=False, limits=limits)
    client = httpx2.AsyncClient(
        headers=server.headers(), auth=auth, timeout=None, trust_env=False, transport=_Contained(network, channel)
    )
    async with client:
        url = server.url or ""
        async with streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES) as streams:
            channel._read, channel._write = streams  # noqa: SLF001 - made here
            yield channel


class _Contained(httpx2.AsyncBaseTransport):
    """Turns trouble with the network into the error of the one request it befell."""

    def __init__(self, network: httpx2.AsyncBaseTransport, channel: HttpChannel) -> None:
        self._network, self._channel = network, channel

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._network.handle_async_request(request)
            return await self._seen(request, response)
        except httpx2.TransportError as exc:
            return self._failed(f"{request.url.netloc.decode()} {_reason(exc)}")

    async def aclose(self) -> None:
        await self._network.aclose()

    async def _seen(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            self._channel.problem = None
            response.stream = _Watched(response.stream, request.url)
            return response
        await _read_bounded(response)
        if response.status_code == 404 and "mcp-session-id" in request.headers:
            self._channel.expired = True
            return _error(404, INVALID_REQUEST, "Session not found")
        if response.status_code in (401, 403) and request.method == "POST":
            self._channel.problem = _refusal(response)
        elif response.status_code >= 500 and kind != "application/json":
            return self._failed(f"the server answered {response.status_code}")
        else:
            self._channel.problem = None
        return response

    def _failed(self, problem: str) -> httpx2.Response:
        self._channel.problem = problem
        return _error(502, CONNECTION_CLOSED, problem)


class _Watched(httpx2.AsyncByteStream):
    """A stream of events. When it breaks and nobody listens any more, the request's error is its last event."""

    def __init__(self, stream: Any, url: httpx2.URL) -> None:
        self._stream, self._url = stream, url
        self._data = aiter(stream)
        self._ended = False

    def __aiter__(self) -> "_Watched":
        return self

    async def __anext__(self) -> bytes:
        broken: httpx2.TransportError
        try:
            return bytes(await anext(self._data))
        except StopAsyncIteration:
            self._ended = True
            raise
        except httpx2.TransportError as exc:
            broken = exc
        if self._ended or await self._is_alive():
            raise broken  # the SDK asks for the rest, if the server keeps it
        self._ended = True
        error = {"jsonrpc": "2.0", "id": 0, "error": {"code": CONNECTION_CLOSED, "message": _reason(broken)}}
        return b"\n\nevent: message\ndata: " + msgspec.json.encode(error) + b"\n\n"

    async def aclose(self) -> None:
        # The SDK has its answer and reads no further; only what is read to its end leaves a connection to use again.
        with trio.move_on_after(LAST_BYTES_S):
            while not self._ended:
                try:
                    await anext(self._data)
                except (StopAsyncIteration, httpx2.TransportError, RuntimeError):
                    self._ended = True
        await self._stream.aclose()

    async def _is_alive(self) -> bool:
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        with trio.move_on_after(KNOCK_S):
            try:
                stream = await trio.open_tcp_stream(self._url.host, port)
            except OSError:
                return False
            await stream.aclose()
        return True


async def _read_bounded(response: httpx2.Response) -> None:
    """Read a body that is no stream; what is too large is an error of the network's."""
    body = bytearray()
    async for data in response.stream:  # type: ignore[union-attr]  # an asynchronous transport's
        body += data
        if len(body) > MAX_MESSAGE_BYTES:
            await response.aclose()
            raise httpx2.RemoteProtocolError(f"sent more than {MAX_MESSAGE_BYTES} bytes")
    await response.stream.aclose()  # type: ignore[union-attr]
    response.stream = httpx2.ByteStream(bytes(body))


def _error(status: int, code: int, message: str) -> httpx2.Response:
    # Without an id of its own: the SDK puts the request's in its place.
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(status, json=error)


def _refusal(response: httpx2.Response) -> str:
    if response.status_code == 403:
        return "the server answered 403 Forbidden: what it was sent does not let it in"
    return "the server answered 401 Unauthorized: give it a token by --header-env, or use 'trillm mcp login'"


def _reason(exc: httpx2.TransportError) -> str:
    if isinstance(exc, httpx2.ConnectError):
        return f"cannot be reached: {_shortest(exc)}"
    return f"broke the connection: {_shortest(exc)}"


def _shortest(exc: BaseException) -> str:
    """Return the innermost reason, which says most."""
    inner = exc.exceptions[0] if isinstance(exc, BaseExceptionGroup) else exc.__cause__ or exc.__context__
    return (inner and _shortest(inner)) or str(exc) or type(exc).__name__
