"""The registered MCP servers as the tool loop of chats needs them: :class:`trillm.gateway.tools.source.ToolSource`.

Each caller, by its key or its token's subject, is a client of its own to servers that remember; servers of the new era
remember nothing, and all share a session. Nobody can be asked anything here: a tool that asks back is told so.
"""

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import trio
from attrs import define, evolve, field

from trillm.errors import BadRequest, Forbidden, TrillmError, UpstreamFailed
from trillm.gateway.access import OAUTH, Caller
from trillm.gateway.tools.source import OnProgress, Progress, Tool, ToolResult, no_such_server
from trillm.mcp.errors import CONNECTION_CLOSED, INTERNAL_ERROR, NOT_ALLOWED, TOO_MANY_REQUESTS, RpcError
from trillm.mcp.links import REQUEST_TIMEOUT, Links
from trillm.mcp.session import MODERN, Params, Request, Session
from trillm.mcp.single import check_server, check_tool, may_call
from trillm.mcp.upstream import LATEST_LEGACY
from trillm.mcp.upstreams import Upstreams
from trillm.registry.registry import Registry

_SERVERS_FAULT = {CONNECTION_CLOSED, REQUEST_TIMEOUT, INTERNAL_ERROR, TOO_MANY_REQUESTS}
#: Seconds after which a caller that has not come back is a new client to servers that remember. Longer than any call.
SESSION_IDLE_S = 1800.0


@define(eq=False)
class McpTools:
    """See the module.

    Args:
        registry: says which servers and keys there are.
        upstreams: returns what is at work for them, started if it was not yet.
    """

    registry: Registry
    upstreams: Callable[[], Awaitable[Upstreams]]
    #: One for each caller, last used last: to a server of the old era it is a client that comes back.
    _sessions: dict[str | None, tuple[Session, float]] = field(factory=dict, init=False)

    def server_at(self, url: str) -> str | None:
        """Return the name of the registered server with this URL, None if there is none."""
        servers = self.registry.snapshot.document.mcp_servers.values()
        wanted = url.rstrip("/")
        return next((server.name for server in servers if (server.url or "").rstrip("/") == wanted), None)

    async def list_tools(self, server: str, *, caller: Caller, only: Collection[str] = ()) -> Sequence[Tool]:
        """Return every tool of a server that the caller may use; see the protocol."""
        links = await self._links(server, caller)
        request = await self._request(links, caller, "tools/list", {})
        try:
            check_server(links, request)
            for name in only:
                check_tool(links, request, name)
            listed = await links.whole(request)
        except RpcError as error:
            raise as_trillm_error(error) from error
        return [_tool(tool) for tool in listed.items if may_call(links, request, tool["name"])]

    async def call_tool(
        self,
        server: str,
        name: str,
        arguments: Mapping[str, Any],
        *,
        caller: Caller,
        on_progress: OnProgress | None = None,
    ) -> ToolResult:
        """Call a tool and return what came of it; see the protocol."""
        links = await self._links(server, caller)
        params: Params = {"name": name, "arguments": dict(arguments)}
        request = await self._request(links, caller, "tools/call", params, on_progress)
        try:
            check_tool(links, request, name)
            return as_tool_result(await links.put(request, request.params))
        except RpcError as error:
            raise as_trillm_error(error) from error

    async def _links(self, server: str, caller: Caller) -> Links:
        links = (await self.upstreams()).links
        if server not in links:
            raise no_such_server(server, [name for name in links if caller.grants.allow_server(name)])
        return links[server]

    async def _request(
        self, links: Links, caller: Caller, method: str, params: Params, on_progress: OnProgress | None = None
    ) -> Request:
        """Return a request of the era in which the server remembers nothing, or of the caller's own old session."""
        try:
            is_modern = (await links.shared.session()).is_modern
        except RpcError as error:
            raise as_trillm_error(error) from error
        who = self._now(caller)
        session = Session(secrets.token_hex(8), who, MODERN) if is_modern else self._session(who)

        async def notify(method: str, told: Params) -> None:
            if on_progress is not None and method == "notifications/progress":
                on_progress(Progress(told["progress"], told.get("total"), told.get("message")))

        if on_progress is not None:
            params = {**params, "_meta": {"progressToken": 1}}
        return Request(1, method, params, session, notify)

    def _session(self, who: Caller) -> Session:
        now = trio.current_time()
        session, _ = self._sessions.pop(who.key, (None, now))
        if session is not None and session.caller != who:
            session.end()  # the key may do other things now
            session = None
        for key, (known, used) in tuple(self._sessions.items()):
            if used + SESSION_IDLE_S > now:
                break
            del self._sessions[key]
            known.end()
        session = session or Session(secrets.token_hex(8), who, LATEST_LEGACY)
        self._sessions[who.key] = (session, now)
        return session

    def _now(self, caller: Caller) -> Caller:
        """Return a caller with what it may use now. Of a key that may have changed; a token says it itself.

        Raises:
            Forbidden: its key was revoked meanwhile.
        """
        if caller.key is None or caller.key.startswith(OAUTH):
            return Caller(caller.key, grants=evolve(caller.grants, admin=False))
        for record in self.registry.snapshot.keyring.records:
            if record.name == caller.key:
                return Caller(record.name, grants=record.grants)
        raise Forbidden(f"The key {caller.key!r} was revoked meanwhile.")


def as_trillm_error(error: RpcError) -> TrillmError:
    """Return what a caller of the chat is told when a server cannot, or may not, be asked."""
    if error.code == NOT_ALLOWED:
        return Forbidden(error.message)
    return UpstreamFailed(error.message) if error.code in _SERVERS_FAULT else BadRequest(error.message)


def as_tool_result(result: Params) -> ToolResult:
    """Return what a model is told of a tool's result."""
    if result.get("resultType") == "input_required":
        return ToolResult("This tool asks a person before it goes on; in this chat nobody can be asked.", is_error=True)
    lines = [line for block in result.get("content") or () if (line := _said(block))]
    if not lines and result.get("structuredContent") is not None:
        lines = [msgspec.json.encode(result["structuredContent"]).decode()]
    return ToolResult("\n".join(lines), is_error=bool(result.get("isError")))


def _said(block: Any) -> str:
    match block:
        case {"type": "text", "text": str(text)} | {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource_link", "uri": uri}:
            return f"[link to {uri}]"
        case {"type": "resource", "resource": {"uri": uri, **rest}}:
            return (
                f"[resource {uri}, {rest.get('mimeType', 'binary')}, {len(str(rest.get('blob', ''))) * 3 // 4} bytes]"
            )
        case {"type": kind, "data": str(data)}:
            return f"[{kind}, {block.get('mimeType', 'of an unknown type')}, {len(data) * 3 // 4} bytes]"
    return ""


def _tool(tool: Params) -> Tool:
    schema = tool.get("inputSchema")
    described = str(tool.get("description") or tool.get("title") or "")
    return Tool(tool["name"], described, schema if isinstance(schema, dict) else {"type": "object", "properties": {}})
