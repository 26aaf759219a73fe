"""One upstream as it is, under its own names: ``/mcp/{server}``. Everything passes through, but what is not allowed."""

from attrs import define

from trillm.mcp import names
from trillm.mcp.errors import CONNECTION_CLOSED, INVALID_PARAMS, NOT_ALLOWED, RpcError
from trillm.mcp.links import Links
from trillm.mcp.listing import KINDS
from trillm.mcp.session import META, Changes, Params, Request, Session
from trillm.mcp.subscriptions import listen
from trillm.mcp.upstreams import Upstreams


@define(eq=False)
class Single:
    """See :class:`trillm.mcp.session.View`.

    Args:
        upstreams: holds it.
        name: of the server.
    """

    upstreams: Upstreams
    name: str

    @property
    def changes(self) -> Changes:
        """What it tells of."""
        return self.upstreams.changes_of(self.name)

    @property
    def links(self) -> Links:
        """What is at work for it; raises :class:`RpcError` when it was removed meanwhile."""
        links = self.upstreams.links.get(self.name)
        if links is None:
            raise RpcError(CONNECTION_CLOSED, f"MCP server {self.name!r} was removed or disabled.")
        return links

    async def describe(self, session: Session) -> Params:
        """Return what the upstream says of itself."""
        told = await self.links.describe(session)
        capabilities = dict(told.get("capabilities") or {})
        if not session.is_modern and "supportedVersions" in told:
            capabilities.setdefault("logging", {})  # of the new era every server may log
        info = told.get("serverInfo") or (told.get("_meta") or {}).get(f"{META}serverInfo") or {"name": self.name}
        described: Params = {"capabilities": capabilities, "serverInfo": info}
        return described | ({"instructions": told["instructions"]} if "instructions" in told else {})

    async def handle(self, request: Request) -> Params:
        """Answer a request: mostly by the upstream's answer."""
        match request.method:
            case "tools/call":
                check_tool(self.links, request, text(request.params, "name"))
            case "logging/setLevel":
                await self.links.set_level(request.session)
                return {}
            case "resources/subscribe":
                uri = text(request.params, "uri")
                await self.links.subscribe(request.session, uri, uri)
                return {}
            case "resources/unsubscribe":
                await self.links.unsubscribe(request.session, text(request.params, "uri"))
                return {}
            case "subscriptions/listen":
                async with self.links.watching(watched(request)):
                    return await listen(request, self.changes)
        result = await self.links.put(request, request.params)
        return self._shown(request, result) if request.method == "tools/list" else result

    def _shown(self, request: Request, result: Params) -> Params:
        kind, key = KINDS[request.method]
        items = [item for item in result.get(kind) or () if may_call(self.links, request, item.get(key))]
        for tool in items:
            if "inputSchema" in tool:
                self.links.lists.schemas[tool["name"]] = tool["inputSchema"]
        return {**result, kind: items}

    async def notified(self, session: Session, method: str, params: Params) -> None:
        """Pass a client's notification on."""
        await self.links.notified(session, method, params)

    def input_schema(self, _session: Session, tool: str) -> Params | None:
        """Return a tool's schema as it was last seen."""
        links = self.upstreams.links.get(self.name)
        return links.lists.schemas.get(tool) if links else None


def may_call(links: Links, request: Request, tool: object) -> bool:
    """Tell whether a tool, by its own name, may be seen and called by who asks."""
    grants, server = request.session.caller.grants, links.server
    if not isinstance(tool, str) or not server.allows(tool):
        return False
    return grants.allow_server(server.name) and grants.allow_tool(names.public(server.name, tool))


def check_tool(links: Links, request: Request, tool: str) -> None:
    """Raise :class:`RpcError`, saying who does not allow it, unless the tool may be called."""
    if not links.server.allows(tool):
        problem = f"The tool {tool!r} is not among those that {links.server.where}.allow_tools allows."
        raise RpcError(NOT_ALLOWED, problem)
    if not may_call(links, request, tool):
        raise RpcError(NOT_ALLOWED, f"This key may not call the tool {names.public(links.server.name, tool)!r}.")


def check_server(links: Links, request: Request) -> None:
    """Raise :class:`RpcError` unless who asks may use the server."""
    if not request.session.caller.grants.allow_server(links.server.name):
        raise RpcError(NOT_ALLOWED, f"This key may not use the MCP server {links.server.name!r}.")


def text(params: Params, name: str) -> str:
    """Return a parameter that must be a text."""
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise RpcError(INVALID_PARAMS, f"{name!r} must be a text.")
    return value


def watched(request: Request) -> tuple[str, ...]:
    """Return the resources whose changes a ``subscriptions/listen`` asks for."""
    wanted = request.params.get("notifications")
    uris = wanted.get("resourceSubscriptions") if isinstance(wanted, dict) else None
    return tuple(uri for uri in uris if isinstance(uri, str)) if isinstance(uris, list) else ()
