"""The registered MCP servers as the tool loop of chats needs them: :class:`trillm.gateway.tools.source.ToolSource`.

Each caller, by the name of its key, is a client of its own to servers that remember; servers of the new era remember
nothing, and all share a session. Nobody can be asked anything here: a tool that asks back is told so.
"""

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from attrs import define, field

from trillm.errors import BadRequest, Forbidden, TrillmError, UpstreamFailed
from trillm.gateway.access import Caller
from trillm.gateway.tools.source import OnProgress, Progress, Tool, ToolResult, no_such_server
from trillm.keys import EVERYTHING, Grants
from trillm.mcp.errors import CONNECTION_CLOSED, INTERNAL_ERROR, NOT_ALLOWED, TOO_MANY_REQUESTS, RpcError
from trillm.mcp.links import REQUEST_TIMEOUT, Links
from trillm.mcp.session import MODERN, Params, Request, Session
from trillm.mcp.single import check_server, check_tool, may_call
from trillm.mcp.upstream import LATEST_LEGACY
from trillm.mcp.upstreams import Upstreams
from trillm.registry.registry import Registry

_SERVERS_FAULT = {CONNECTION_CLOSED, REQUEST_TIMEOUT, INTERNAL_ERROR, TOO_MANY_REQUESTS}


@define(eq=False)
class McpTools:
    """See the module.

    Args:
        registry: says which servers and keys there are.
        upstreams: returns what is at work for them, started if it was not yet.
    """

    registry: Registry
    upstreams: Callable[[], Awaitable[Upstreams]]
    #: One for each caller: to a server of the old era it is a client that comes back.
    _sessions: dict[str | None, Session] = field(factory=dict, init=False)

    def server_at(self, url: str) -> str | None:
        """Return the name of the registered server with this URL, None if there is none."""
        servers = self.registry.snapshot.document.mcp_servers.values()
        wanted = url.rstrip("/")
        return next((server.name for server in servers if (server.url or "").rstrip("/") == wanted), None)

    async def list_tools(self, server: str, *, caller: str | None, only: Collection[str] = ()) -> Sequence[Tool]:
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
        caller: str | None,
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

    async def _links(self, server: str, caller: str | None) -> Links:
        links = (await self.upstreams()).links
        if server not in links:
            grants = self._grants(caller)
            raise no_such_server(server, [name for name in links if grants.allow_server(name)])
        return links[server]

    async def _request(
        self, links: Links, caller: str | None, method: str, params: Params, on_progress: OnProgress | None = None
    ) -> Request:
        """Return a request of the era in which the server remembers nothing, or of the caller's own old session."""
        try:
            is_modern = (await links.shared.session()).is_modern
        except RpcError as error:
            raise as_trillm_error(error) from error
        who = Caller(caller, grants=self._grants(caller))
        session = Session(secrets.token_hex(8), who, MODERN) if is_modern else self._session(who)

        async def notify(method: str, told: Params) -> None:
            if on_progress is not None and method == "notifications/progress":
                on_progress(Progress(told["progress"], told.get("total"), told.get("message")))

        if on_progress is not None:
            params = {**params, "_meta": {"progressToken": 1}}
        return Request(1, method, params, session, notify)

    def _session(self, who: Caller) -> Session:
        known = self._sessions.get(who.key)
        if known is None or known.caller != who:
            if known is not None:
                known.end()  # the key may do other things now
            known = self._sessions[who.key] = Session(secrets.token_hex(8), who, LATEST_LEGACY)
        return known

    def _grants(self, caller: str | None) -> Grants:
        """Return what a caller may use.

        Raises:
            Forbidden: it is nobody the keys tell of: its key was revoked meanwhile, or it came by another way.
        """
        if caller is None:
            return EVERYTHING
        for record in self.registry.snapshot.keyring.records:
            if record.name == caller:
                return record.grants
        raise Forbidden(f"What {caller!r} may use is not known: MCP tools in chats are for the bearers of keys.")


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
