"""The registry file as one frozen value: its sections, and that they fit together. Owns no file, does no I/O.

The JSON shape stands in the configuration reference; fields not known here survive reading and writing.
"""

from collections.abc import Mapping
from typing import Any, Self

from attrs import evolve, field, frozen

from trillm.errors import ConfigError
from trillm.registry.entries import INHERIT, Budgets, Route, Server, Target
from trillm.registry.fields import extra_field, frozen_mapping, read_fields, section
from trillm.registry.mcpentries import McpServer
from trillm.registry.prompts import Prompt
from trillm.registry.toollimits import ToolLimits

__all__ = ["VERSION", "Budgets", "Document", "McpServer", "Route", "Server", "Target", "ToolLimits"]

VERSION = 1


@frozen
class Document:
    """The whole file. Every server a route names is in it, LLM or MCP.

    Args:
        version: of the file's shape.
        budgets: for every server and route that sets none.
        servers: by name.
        routes: by name.
        mcp_servers: upstream MCP servers, by name.
        prompts: what MCP clients are offered as prompts, by name.
        tool_limits: of chats that run tools.
        extra: fields not known to this version.
    """

    version: int = VERSION
    budgets: Budgets = INHERIT
    servers: Mapping[str, Server] = field(factory=dict, converter=frozen_mapping)
    routes: Mapping[str, Route] = field(factory=dict, converter=frozen_mapping)
    mcp_servers: Mapping[str, McpServer] = field(factory=dict, converter=frozen_mapping)
    prompts: Mapping[str, Prompt] = field(factory=dict, converter=frozen_mapping)
    tool_limits: ToolLimits = ToolLimits()  # noqa: RUF009 - a frozen value
    extra: Mapping[str, Any] = extra_field()

    def __attrs_post_init__(self) -> None:
        for route in self.routes.values():
            for where, target in route.targets().items():
                if target.server not in self.servers:
                    raise ConfigError(where, f"no server named {target.server!r}")
            for i, name in enumerate(route.mcp_servers):
                if name not in self.mcp_servers:
                    raise ConfigError(f"{route.where}.mcp_servers[{i}]", f"no MCP server named {name!r}")

    def with_server(self, server: Server) -> "Document":
        """Return a document with ``server`` added, or in the place of the one of its name."""
        return evolve(self, servers={**self.servers, server.name: server})

    def without_server(self, name: str) -> "Document":
        """Return a document without server ``name``; refused while a route needs it."""
        for route in self.routes.values():
            if any(target.server == name for target in route.targets().values()):
                raise ConfigError(f"servers.{name}", f"route {route.name!r} needs it, change that first")
        return evolve(self, servers=_without(self.servers, name, "server"))

    def with_route(self, route: Route) -> "Document":
        """Return a document with ``route`` added, or in the place of the one of its name."""
        return evolve(self, routes={**self.routes, route.name: route})

    def without_route(self, name: str) -> "Document":
        """Return a document without route ``name``."""
        return evolve(self, routes=_without(self.routes, name, "route"))

    def with_mcp_server(self, server: McpServer) -> "Document":
        """Return a document with ``server`` added, or in the place of the one of its name."""
        return evolve(self, mcp_servers={**self.mcp_servers, server.name: server})

    def without_mcp_server(self, name: str) -> "Document":
        """Return a document without MCP server ``name``; refused while a route needs it."""
        for route in self.routes.values():
            if name in route.mcp_servers:
                raise ConfigError(f"mcp_servers.{name}", f"route {route.name!r} needs it, change that first")
        return evolve(self, mcp_servers=_without(self.mcp_servers, name, "mcp_server"))

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read the JSON object a file holds, or raise :class:`ConfigError` with the path of the bad field."""
        check_version(section("the file", raw).get("version", VERSION))
        arguments = read_fields(cls, "", raw)
        servers = section("servers", arguments.get("servers", {}))
        routes = section("routes", arguments.get("routes", {}))
        mcp_servers = section("mcp_servers", arguments.get("mcp_servers", {}))
        prompts = section("prompts", arguments.get("prompts", {}))
        arguments |= {
            "servers": {name: Server.from_json(name, value) for name, value in servers.items()},
            "routes": {name: Route.from_json(name, value) for name, value in routes.items()},
            "mcp_servers": {name: McpServer.from_json(name, value) for name, value in mcp_servers.items()},
            "prompts": {name: Prompt.from_json(name, value) for name, value in prompts.items()},
        }
        if "budgets" in arguments:
            arguments["budgets"] = Budgets.from_json(arguments["budgets"])
        if "tool_limits" in arguments:
            arguments["tool_limits"] = ToolLimits.from_json(arguments["tool_limits"])
        return cls(**arguments)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object to write."""
        sections = {
            "version": self.version,
            "budgets": self.budgets.to_json(),
            "servers": {name: server.to_json() for name, server in self.servers.items()},
            "routes": {name: route.to_json() for name, route in self.routes.items()},
            "mcp_servers": {name: server.to_json() for name, server in self.mcp_servers.items()},
            "prompts": {name: prompt.to_json() for name, prompt in self.prompts.items()},
            "tool_limits": self.tool_limits.to_json(),
        }
        return {key: value for key, value in sections.items() if value} | dict(self.extra)


def check_version(version: Any) -> None:
    """Raise :class:`ConfigError` unless a file of that version can be read and written without loss."""
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigError("version", f"must be a whole number from 1: {version!r}")
    if version > VERSION:
        problem = f"{version} was written by a newer trillm, this one knows {VERSION}: upgrade trillm"
        raise ConfigError("version", problem)


def _without(entries: Mapping[str, Any], name: str, what: str) -> dict[str, Any]:
    if name not in entries:
        there = ", ".join(entries) or "none"
        raise ConfigError(f"{what}s.{name}", f"no {what.replace('_', ' ')} of that name; there are: {there}")
    return {key: value for key, value in entries.items() if key != name}
