"""MCP over Streamable HTTP, both eras: what each request is, who may send it, and what answers.

A POST of the new era is a whole conversation: it is answered in the connection's own task, and a client that closes the
connection has cancelled it. In the old era a request belongs to a session and goes on without its connection.
"""

import logging
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import trio
from attrs import define, field, frozen
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from trillm.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    TrillmError,
    Unavailable,
    UnsupportedMediaType,
)
from trillm.gateway.access import Caller
from trillm.gateway.reply import ClientLeft, Headers, Reply
from trillm.mcp import protocol
from trillm.mcp.endpoint import Endpoint
from trillm.mcp.errors import INVALID_PARAMS, INVALID_REQUEST, RpcError, rpc_error
from trillm.mcp.httpsession import HttpSession
from trillm.mcp.messages import decode, error_message, id_of, no_request
from trillm.mcp.outlet import SILENCE_S, Outlet
from trillm.mcp.session import Params, View
from trillm.mcp.stateless import answer
from trillm.wire.http_request import HttpRequest

log = logging.getLogger(__name__)


class NotAcceptable(BadRequest):
    """The client does not take what this is answered with."""

    status = 406
    code = "not_acceptable"


@frozen
class HttpSettings:
    """What clients may cost.

    Args:
        message_bytes: the largest body.
        sessions: of the old era, at once.
        idle_s: seconds after which an old session that nobody uses ends.
    """

    message_bytes: int = 4 * 1024 * 1024
    sessions: int = 10_000
    idle_s: float = 1800.0


@define(eq=False)
class HttpFace:
    """Serves the HTTP requests of an endpoint.

    Args:
        endpoint: what is served, and to whom.
        nursery: sessions of the old era run there.
        worker: which of several processes this is, from 1; 0: there is one.
        settings: see :class:`HttpSettings`.
    """

    endpoint: Endpoint
    nursery: trio.Nursery
    worker: int = 0
    settings: HttpSettings = field(factory=HttpSettings)
    sessions: dict[str, HttpSession] = field(factory=dict, init=False, repr=False)
    _outlets: set[Outlet] = field(factory=set, init=False, repr=False)

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        """Answer one request. Raises nothing but Cancelled, which is what to do when the client leaves."""
        outlet = Outlet(reply)
        self._outlets.add(outlet)
        try:
            await self._handle(request, outlet)
        except ClientLeft:
            return
        except RpcError as error:
            await _refuse(outlet, ERROR_CODE_HTTP_STATUS.get(error.code, 400), error)
        except TrillmError as error:
            await _refuse(outlet, error.status, _of_http(error), [*self.endpoint.challenge(error), *error.headers()])
        except Exception as exc:
            log.exception("request broken path=%s", request.path)
            await _refuse(outlet, 500, protocol.error_for(exc))
        finally:
            self._outlets.discard(outlet)

    async def _handle(self, request: HttpRequest, outlet: Outlet) -> None:
        caller = self.endpoint.admit(request.raw_headers, request.address)
        view = self.endpoint.view(request.path, caller)
        if view is None:
            raise NotFound(f"No MCP server is served at {request.path!r}. Try /mcp.")
        headers = request.headers
        version = headers.get("mcp-protocol-version")
        old = version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
        if request.method == "POST":
            message = self._message(request, headers)
            if old and not _brings_envelope(message):
                await self._post(request, caller, view, message, headers, outlet)
            else:
                await answer(view, caller, message, request, headers, outlet)
        elif not old:
            raise _NotThisMethod(request.method, "POST")
        elif request.method == "GET":
            await self._get(request, caller, headers, outlet)
        elif request.method == "DELETE":
            self._end(self._session(request, caller, headers))
            await outlet.nothing(200)
        else:
            raise _NotThisMethod(request.method, "GET, POST, DELETE")

    def _message(self, request: HttpRequest, headers: Mapping[str, str]) -> Any:
        if len(request.body) > self.settings.message_bytes:
            raise TooLarge(f"The message is larger than {self.settings.message_bytes} bytes.")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise UnsupportedMediaType("The body must be JSON: send 'content-type: application/json'.")
        accepted = _accepted(headers)
        if not ({"application/json", "application/*", "*/*"} & accepted and _takes_streams(accepted)):
            raise NotAcceptable("Send 'accept: application/json, text/event-stream'.")
        return decode(request.body)

    # ── the old era ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _post(
        self,
        request: HttpRequest,
        caller: Caller,
        view: View,
        message: Any,
        headers: Mapping[str, str],
        outlet: Outlet,
    ) -> None:
        match message:
            case {"jsonrpc": "2.0", "method": "initialize", "id": _} if "mcp-session-id" not in headers:
                return await self._initialize(request, caller, view, message, outlet)
            case {"jsonrpc": "2.0", "method": str(), "id": _} if id_of(message) is not None:
                session = self._session(request, caller, headers)
                outlet.headers = session.headers
                with session.visited():
                    return await session.answer(message, outlet)
            case {"jsonrpc": "2.0", "method": str()} if "id" not in message:
                pass
            case {"jsonrpc": "2.0", "id": str() | int()} if ("result" in message) != ("error" in message):
                pass
            case _:
                raise no_request(message)
        await self._session(request, caller, headers).tell(message)
        return await outlet.nothing(202)

    async def _initialize(
        self, request: HttpRequest, caller: Caller, view: View, message: Params, outlet: Outlet
    ) -> None:
        if len(self.sessions) >= self.settings.sessions:
            raise Unavailable("There are too many MCP sessions; try again later.")
        session = HttpSession(view, _without_slash(request.path), caller, self._mark)
        self.sessions[session.id] = session
        try:
            await self.nursery.start(self._serve, session)
            outlet.headers = session.headers
            with session.visited():
                await session.answer(message, outlet)
        finally:
            if not session.opened:
                self._end(session)

    async def _serve(self, session: HttpSession, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self.endpoint.known(session.dialogue, partial(self._end, session)):
                await session.serve(task_status=task_status)
        except Exception:
            log.exception("session broken")
        finally:
            self.sessions.pop(session.id, None)

    def _end(self, session: HttpSession) -> None:
        """End a session, which nobody finds from now on; what runs in it takes a moment to be cancelled."""
        self.sessions.pop(session.id, None)
        session.end()

    async def _get(self, request: HttpRequest, caller: Caller, headers: Mapping[str, str], outlet: Outlet) -> None:
        if not _takes_streams(_accepted(headers)):
            raise NotAcceptable("Send 'accept: text/event-stream'.")
        session = self._session(request, caller, headers)
        stream, after = session.channel.streams.alone, None
        if (last := headers.get("last-event-id")) is not None:
            found = session.channel.streams.find(last)
            stream, after = found if found is not None else (stream, None)
        if stream.reader and last is None:
            raise _Conflict("This stream is being read on another connection.")
        outlet.headers = session.headers
        with session.visited():
            await session.pour(stream, after, outlet)

    def _session(self, request: HttpRequest, caller: Caller, headers: Mapping[str, str]) -> HttpSession:
        """Return the session of a request; somebody else's is answered as one that does not exist."""
        session_id = headers.get("mcp-session-id")
        if session_id is None:
            raise BadRequest("An mcp-session-id is needed: send 'initialize' to get one.", code="missing_session")
        session = self.sessions.get(session_id)
        if session is None and self.worker and _WORKERS.match(session_id) and not session_id.startswith(self._mark):
            raise _Misdirected(
                "This session lives in another worker process than this connection. Keep to the connection on which "
                "'initialize' was sent; or use MCP 2026-07-28 or WebSocket, or trillm without --workers."
            )
        if session is None or not session.belongs_to(caller, _without_slash(request.path)):
            raise NotFound("Session not found: send 'initialize' to begin another.", code="session_not_found")
        return session

    @property
    def _mark(self) -> str:
        """How the ids of this process's sessions begin."""
        return f"w{self.worker}-" if self.worker else ""

    # ── all together ────────────────────────────────────────────────────────────────────────────────────────────

    async def serve_times(self) -> None:
        """Keep silent streams alive, and end sessions that nobody uses, looking now and then."""
        while True:
            await trio.sleep(SILENCE_S / 3)
            now = trio.current_time()
            for outlet in tuple(self._outlets):
                if outlet.last_s + SILENCE_S < now:
                    outlet.last_s = now
                    self.nursery.start_soon(_comment, outlet)
            for session in tuple(self.sessions.values()):
                if not session.visitors and session.last_used_s + self.settings.idle_s < now:
                    self._end(session)

    async def finish(self) -> None:
        """Let what runs be answered, and end every session."""
        async with trio.open_nursery() as nursery:
            for session in tuple(self.sessions.values()):
                nursery.start_soon(session.finish)


#: How ids of sessions begin where there are several processes.
_WORKERS = re.compile(r"w[0-9]+-")


class _Misdirected(BadRequest):
    # Not 404: that would say that the session has ended.
    status = 421
    code = "session_elsewhere"


class _Conflict(BadRequest):
    status = 409
    code = "conflict"


class _NotThisMethod(MethodNotAllowed):
    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not allowed here; use {allowed}.")
        self.allowed = allowed

    def headers(self) -> Headers:
        return [(b"allow", self.allowed.encode()), *super().headers()]


# ── helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_http(error: TrillmError) -> RpcError:
    """Return what goes with a status: what is wrong with a request here is not its parameters."""
    told = rpc_error(error)
    return RpcError(INVALID_REQUEST, told.message, told.data) if told.code == INVALID_PARAMS else told


def _brings_envelope(message: Any) -> bool:
    params = message.get("params") if isinstance(message, dict) else None
    return isinstance(params, dict) and protocol.has_envelope(params)


def _accepted(headers: Mapping[str, str]) -> set[str]:
    kinds = headers.get("accept", "*/*").split(",")
    return {kind.partition(";")[0].strip().lower() for kind in kinds}


def _takes_streams(accepted: set[str]) -> bool:
    return bool({"text/event-stream", "text/*", "*/*"} & accepted)


def _without_slash(path: str) -> str:
    return path.rstrip("/")


async def _refuse(outlet: Outlet, status: int, error: RpcError, headers: Headers = ()) -> None:  # type: ignore[assignment]  # empty
    outlet.headers = [*outlet.headers, *headers]
    try:
        if outlet.reply.started:
            outlet.reply.abort()
        else:
            await outlet.answer(error_message(None, error), status)
    except ClientLeft:
        log.debug("refused nobody")


async def _comment(outlet: Outlet) -> None:
    try:
        await outlet.comment()
    except ClientLeft:
        log.debug("nobody there")
