"""Streamable HTTP to an upstream, both eras: each message is a POST, answered with JSON or with a stream of events.

Who sends a request stays in :meth:`HttpChannel.send` until its answer has been handed on: no task stands between a
socket and who waits for it. What goes wrong with one request is the error of that request, and of no other.
Own code in the place of the SDK's transport, which costs five times as much (docs/decisions/0013).
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    mcp_param_headers,
    x_mcp_header_map,
)

from trillm.errors import UpstreamFailed
from trillm.mcp.errors import CONNECTION_CLOSED, RpcError
from trillm.mcp.events import Events
from trillm.mcp.httpanswers import BOTH_KINDS, EVENTS, JSON, MAX_RETRY_S, Reading, decoded, kind, refusal, status_error
from trillm.mcp.httpwire import HttpServer, header
from trillm.mcp.messages import decode
from trillm.mcp.session import META, MODERN, Params
from trillm.registry.mcpentries import McpServer
from trillm.wire.exchange import Connections, Exchange
from trillm.wire.net import Connect, Origin
from trillm.wire.net import connect as connect_default
from trillm.wire.stream import close_now

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: How long the end of an answered stream is waited for: only what is read to its end leaves a connection to use again.
LAST_BYTES_S = 0.05
#: What telling a server that its session ends may take.
GOODBYE_S = 1.0
#: How often the rest of a broken stream is asked for in vain.
MAX_RETRIES = 2

#: A tool's input schema, if it is known.
Schemas = Callable[[str], Params | None]


@define(eq=False)
class HttpChannel:
    """Messages to and from one server; see :class:`trillm.mcp.jsonrpc.Channel`. Made by :func:`open_http`.

    Args:
        server: takes requests.
        schemas: of its tools, for those whose arguments are repeated in headers.
        nursery: what the server says beside its answers is read there.
        version: agreed on in the old era; of the new one each request brings its own.
        deliver: takes what comes, decoded; set by whoever speaks through this.
    """

    server: HttpServer
    schemas: Schemas
    nursery: trio.Nursery
    version: str | None = field(default=None, init=False)
    deliver: Callable[[Any], Awaitable[None]] = field(init=False)
    _session_id: str | None = field(default=None, init=False, repr=False)

    async def receive(self) -> None:
        """Wait for ever: what comes is handed to :attr:`deliver`, and there is no connection whose end was one."""
        await trio.sleep_forever()

    async def send(self, message: bytes) -> None:
        """Send a message on a request of its own; return when it was taken, a request when it was answered.

        Cancelled, the connection is closed, which takes a request of the new era back.

        Raises:
            trio.BrokenResourceError: it is no request, and was not taken.
        """
        asked = decode(message)
        method = asked.get("method")
        if method == "notifications/cancelled" and self.version is None:
            return  # closing the connection has said so
        reading = Reading(asked.get("id") if method else None)
        try:
            await self._post(message, self._headers(asked), reading)
        except RpcError as error:
            if reading.id is None:
                raise trio.BrokenResourceError(error.message) from error
            await self._answer(reading, {"error": error.to_json()})
        if method == "notifications/initialized" and self._session_id is not None:
            self.nursery.start_soon(self._listen)

    def _headers(self, message: Params) -> dict[str, str]:
        """Return the headers that repeat what the message says, as its era wants them."""
        headers = {"accept": BOTH_KINDS, "content-type": JSON, **self._of_session()}
        method, params = message.get("method", ""), message.get("params") or {}
        version = (params.get("_meta") or {}).get(f"{META}protocolVersion") or self.version
        if version is None or method == "initialize":
            return headers
        headers[MCP_PROTOCOL_VERSION_HEADER] = version
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

    def _of_session(self) -> dict[str, str]:
        headers = {} if self._session_id is None else {"mcp-session-id": self._session_id}
        return headers if self.version is None else {**headers, MCP_PROTOCOL_VERSION_HEADER: self.version}

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _post(self, message: bytes, headers: dict[str, str], reading: Reading) -> None:
        """Send a message, and hand on what it is answered with until there is an answer.

        Raises:
            RpcError: there is none.
        """
        failure = "the server ended its answer without a result"
        try:
            async with self.server.ask("POST", headers, message) as answer:
                if answer.status == 200:
                    self._session_id = header(answer, b"mcp-session-id") or self._session_id
                if kind(answer) == EVENTS and answer.status == 200:
                    await self._read(answer, reading)
                else:
                    await self._take(answer, reading)
        except UpstreamFailed as exc:
            failure = exc.message
            if reading.last_event_id is not None:
                await self._knock()
        if reading.id is None or reading.answered:
            return
        if reading.last_event_id is not None:
            await self._resume(reading)
        if not reading.answered:
            raise RpcError(CONNECTION_CLOSED, failure)

    async def _read(self, answer: Exchange, reading: Reading) -> None:
        """Hand on the messages of a stream, until it ends or has brought the answer."""
        events = Events(MAX_MESSAGE_BYTES)
        while not reading.answered and (data := await answer.receive()):
            for event in events.feed(data):
                reading.note(event)
                if event.data and not reading.answered:
                    await self._message(decoded(event.data), reading)
        await answer.skip_rest(within_s=LAST_BYTES_S)

    async def _take(self, answer: Exchange, reading: Reading) -> None:
        """Hand on an answer that is no stream.

        Raises:
            RpcError: it is none of MCP's.
        """
        body = await answer.read(MAX_MESSAGE_BYTES)
        refused = refusal(answer.status, with_session=self._session_id is not None)
        if refused is not None:
            raise refused
        if kind(answer) == JSON and (reading.id is not None or body):
            await self._json(answer.status, body, reading)
        if answer.status >= 300 and not reading.answered:
            raise status_error(answer.status)

    async def _json(self, status: int, body: bytes, reading: Reading) -> None:
        message = decoded(body)
        if status < 300:
            for each in message if isinstance(message, list) else [message]:
                await self._message(each, reading)
        elif reading.id is not None and isinstance(message, dict) and isinstance(message.get("error"), dict):
            await self._message(message, reading)  # of an error that it could not tell the request of, too

    async def _message(self, message: Any, reading: Reading) -> None:
        match message:
            case {"method": str()}:
                await self.deliver(message)
            case {"result": _} | {"error": _} if reading.id is not None:
                await self._answer(reading, message)
            case _:
                log.debug("mcp upstream sent what is no message url=%s", self.server.url)

    async def _answer(self, reading: Reading, message: Params) -> None:
        """Hand on the answer. What a request is answered with is its answer, whatever id that has."""
        reading.answered = True
        await self.deliver({**message, "jsonrpc": "2.0", "id": reading.id})

    # ── streams that break ──────────────────────────────────────────────────────────────────────────────────────

    async def _knock(self) -> None:
        """Find out whether anybody listens, before the rest of a stream is waited for.

        Raises:
            RpcError: nobody does.
        """
        try:
            connections = self.server.connections
            close_now((await connections.open(Origin.of(self.server.url))).stream)
        except UpstreamFailed as exc:
            raise RpcError(CONNECTION_CLOSED, exc.message) from exc

    async def _resume(self, reading: Reading) -> None:
        """Ask for the rest of a stream that ended without an answer, as long as the server has it."""
        in_vain = 0
        while in_vain < MAX_RETRIES and not reading.answered:
            await trio.sleep(reading.retry_s)
            in_vain = 0 if await self._get(reading) else in_vain + 1

    async def _listen(self) -> None:
        """Hand on what the server says beside its answers, if it has a stream for that."""
        reading, in_vain = Reading(), 0
        while (there := await self._get(reading)) is not None:
            in_vain = 0 if there else in_vain + 1
            await trio.sleep(min(reading.retry_s * 2**in_vain, MAX_RETRY_S))

    async def _get(self, reading: Reading) -> bool | None:
        """Read a stream of the session; return whether there was one, None if there will be none."""
        try:
            async with self.server.ask("GET", {**self._of_session(), **reading.resumption()}) as answer:
                if kind(answer) != EVENTS or answer.status != 200:
                    return None if answer.status < 500 else False
                await self._read(answer, reading)
                return True
        except (UpstreamFailed, RpcError) as exc:
            log.debug("mcp stream broke url=%s error=%s", self.server.url, exc)
            return False

    async def leave(self) -> None:
        """Tell the server that the session ends; one that cannot be told will find out."""
        if self._session_id is None:
            return
        try:
            async with self.server.ask("DELETE", self._of_session()):
                self._session_id = None
        except UpstreamFailed as exc:
            log.debug("mcp session not ended url=%s error=%s", self.server.url, exc)


@asynccontextmanager
async def open_http(
    server: McpServer, schemas: Schemas, auth: Any = None, *, connect: Connect = connect_default
) -> AsyncIterator[HttpChannel]:
    """Speak Streamable HTTP with ``server`` for the time of the block; connects when the first message is sent.

    What the block raises comes out in an exception group, as from a nursery.

    Args:
        server: with a url.
        schemas: of its tools, for those whose arguments are repeated in headers.
        auth: what signs requests, after ``trillm mcp login``: an ``httpx2.Auth``, or None.
        connect: makes connections.

    Raises:
        ConfigError: a header's environment variable is not set.
    """
    signer = None
    if auth is not None:
        from trillm.mcp.signer import Signer

        signer = Signer(auth)
    with Connections(connect, connect_s=server.start_s, repeats=False) as connections:
        async with trio.open_nursery() as nursery:
            channel = HttpChannel(HttpServer(server.url or "", server.headers(), connections, signer), schemas, nursery)
            try:
                yield channel
            finally:
                with trio.move_on_after(GOODBYE_S, shield=True):
                    await channel.leave()
            nursery.cancel_scope.cancel()
