"""What a chat request asks for: which MCP servers, which of their tools, and which tools are the caller's own.

The shape is OpenAI's MCP tool (Responses API): ``{"type": "mcp", "server_label": …, "allowed_tools": …,
"require_approval": "never"}`` among ``tools``. A route may add servers. Nothing here waits.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from attrs import frozen

from trillm.errors import BadRequest
from trillm.gateway.tools.source import MAX_NAME_CHARS, ToolSource


@frozen
class AskedServer:
    """One server that is asked for.

    Args:
        server: its name in the registry.
        label: what the request calls it; in a route, its name.
        allowed: the tools it is to be restricted to, the server's own names; None: all.
        where: who asks, for errors: ``tools[2]``, or the route.
    """

    server: str
    label: str
    allowed: tuple[str, ...] | None
    where: str


@frozen
class Asked:
    """See the module's docstring.

    Args:
        tools: the members of ``tools`` in order: the caller's own as they came, and servers in place of others.
        own: the names of the caller's own tools.
        choice: ``tool_choice``, decoded; None if there is none.
        max_calls: ``max_tool_calls``.
    """

    tools: tuple[msgspec.Raw | AskedServer, ...]
    own: frozenset[str] = frozenset()
    choice: Any = None
    max_calls: int | None = None

    @property
    def servers(self) -> list[AskedServer]:
        """The servers, in order."""
        return [tool for tool in self.tools if isinstance(tool, AskedServer)]


class _Body(msgspec.Struct):
    """All that is looked at. A ``tools`` that is no array is the server's to refuse."""

    tools: list[msgspec.Raw] | None = None
    tool_choice: Any = None
    n: Any = None
    max_tool_calls: Any = None


class _Filter(msgspec.Struct):
    tool_names: list[str] | None = None
    read_only: bool | None = None


class _McpTool(msgspec.Struct):
    server_label: str | None = None
    server_url: str | None = None
    allowed_tools: list[str] | _Filter | None = None
    require_approval: Any = None
    connector_id: Any = None
    authorization: Any = None
    headers: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def read_asked(body: bytes, route_servers: Sequence[str], source: ToolSource) -> Asked | None:
    """Return what ``body`` and its route ask for; None if that is no MCP server.

    Args:
        body: of a chat request, known to be a JSON object.
        route_servers: names in the registry that the route adds.
        source: knows the servers' URLs.

    Raises:
        BadRequest: it asks for what trillm does not do, or not clearly; the message says where.
    """
    try:
        asked = _decode(body)
    except msgspec.ValidationError:
        if route_servers:
            raise BadRequest("'tools' must be an array.", param="tools") from None
        return None
    tools = [_tool(raw, f"tools[{i}]", source) for i, raw in enumerate(asked.tools or ())]
    named = {tool.server for tool in tools if isinstance(tool, AskedServer)}
    tools += [AskedServer(name, name, None, "the route") for name in route_servers if name not in named]
    if not any(isinstance(tool, AskedServer) for tool in tools):
        return None
    _check(asked, [tool for tool in tools if isinstance(tool, AskedServer)])
    own = frozenset(name for tool in tools if isinstance(tool, msgspec.Raw) for name in _names(tool))
    return Asked(tuple(tools), own, asked.tool_choice, asked.max_tool_calls)


def _check(asked: _Body, servers: Sequence[AskedServer]) -> None:
    seen: set[str] = set()
    for server in servers:
        if server.server in seen:
            raise _refused(server.where, f"the MCP server {server.server!r} is asked for twice; join the two")
        seen.add(server.server)
    if asked.n not in (None, 1):
        raise BadRequest("'n' must be 1 where tools are run: each choice would go its own way.", param="n")
    most = asked.max_tool_calls
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise BadRequest("'max_tool_calls' must be a whole number from 1.", param="max_tool_calls")


def _tool(raw: msgspec.Raw, where: str, source: ToolSource) -> msgspec.Raw | AskedServer:
    entry = msgspec.json.decode(raw)
    if not isinstance(entry, dict) or entry.get("type") != "mcp":
        return raw
    try:
        tool = msgspec.convert(entry, _McpTool)
    except msgspec.ValidationError as exc:
        raise _refused(where, str(exc)) from exc
    _check_tool(tool, where)
    server, label = _named(tool, where, source)
    return AskedServer(server, label, _allowed(tool, where), where)


def _check_tool(tool: _McpTool, where: str) -> None:
    """Refuse what would change who runs what, or as whom: passing over it in silence would be a trap."""
    if tool.require_approval != "never":
        given = "is missing" if tool.require_approval is None else "asks for approval"
        raise _refused(
            f"{where}.require_approval",
            f'it {given}, and nobody can be asked: trillm runs tools itself. Send "require_approval": "never"',
        )
    if tool.connector_id is not None:
        raise _refused(f"{where}.connector_id", "there are no connectors here; name a registered MCP server")
    for name in ("authorization", "headers"):
        if getattr(tool, name):
            raise _refused(f"{where}.{name}", "a caller's own credentials are not passed on to MCP servers")


def _named(tool: _McpTool, where: str, source: ToolSource) -> tuple[str, str]:
    """Return the server's name in the registry, and what the caller calls it."""
    if tool.server_url:
        server = source.server_at(tool.server_url)
        if server is None:
            shown = tool.server_url[:MAX_NAME_CHARS]
            raise _refused(
                f"{where}.server_url",
                f"{shown!r} is not registered, and trillm connects to registered MCP servers only (trillm mcp add)",
            )
        return server, tool.server_label or server
    if not tool.server_label:
        raise _refused(f"{where}.server_label", "it must name a registered MCP server")
    return tool.server_label, tool.server_label


def _allowed(tool: _McpTool, where: str) -> tuple[str, ...] | None:
    allowed = tool.allowed_tools
    if isinstance(allowed, _Filter):
        if allowed.read_only is not None:
            raise _refused(f"{where}.allowed_tools.read_only", "tools can be allowed by name only")
        allowed = allowed.tool_names
    if allowed is None:
        return None
    if not allowed:
        raise _refused(f"{where}.allowed_tools", "it allows no tool at all; leave it out to allow every tool")
    return tuple(dict.fromkeys(allowed))


def _names(tool: msgspec.Raw) -> Iterator[str]:
    entry = msgspec.json.decode(tool)
    for kind in ("function", "custom"):
        about = entry.get(kind) if isinstance(entry, dict) else None
        if isinstance(about, dict) and isinstance(about.get("name"), str):
            yield about["name"]


def _refused(where: str, problem: str) -> BadRequest:
    return BadRequest(f"{where}: {problem}.", param="tools")
