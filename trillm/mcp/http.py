"""MCP over Streamable HTTP: who is let in to which endpoint; the rest is the SDK's (:mod:`trillm.mcp.sdk`)."""

from typing import Any

import msgspec
from attrs import define

from trillm.errors import NotFound, TrillmError
from trillm.gateway.reply import Headers
from trillm.mcp.endpoint import Endpoint
from trillm.mcp.errors import rpc_error
from trillm.mcp.sdk import HttpSessions, Visit

SESSION_HEADER = b"mcp-session-id"


@define(eq=False)
class HttpFace:
    """Serves the HTTP requests of an endpoint.

    Args:
        endpoint: what is served, and to whom.
        sessions: speak the protocol.
    """

    endpoint: Endpoint
    sessions: HttpSessions

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request: an ASGI application for ``/mcp`` and what is below."""
        try:
            visit = self._admitted(scope)
        except TrillmError as error:
            return await _refuse(send, error)
        return await self.sessions.serve(visit, scope, receive, send)

    def _admitted(self, scope: Any) -> Visit:
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        caller = self.endpoint.access.admit(headers)
        path = scope["path"].rstrip("/")
        view = self.endpoint.view(path, caller)
        if view is None:
            raise NotFound(f"No MCP server is served at {path!r}. Try /mcp.")
        visit = Visit(caller, view, path)
        session_id = dict(headers).get(SESSION_HEADER)
        # Somebody else's is answered as one that does not exist.
        if session_id is not None and not self.sessions.owns(visit, session_id.decode("latin-1")):
            raise NotFound("Session not found: send 'initialize' to begin another.", code="session_not_found")
        return visit


async def _refuse(send: Any, error: TrillmError) -> None:
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": rpc_error(error).to_json()})
    headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": [*headers, *error.headers()]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
