"""``trillm mcp``: what looks at upstream MCP servers, and calls their tools. Changes are :mod:`trillm.cli.mcp`'s."""

from collections.abc import Iterator
from typing import Any

import asyncclick as click
from attrs import evolve

from trillm.cli.command import Command, example, json_option
from trillm.cli.output import NOTHING, Cell, note, printable, say, say_json, say_table
from trillm.cli.registry import find, mcp_argument, store_option
from trillm.registry.mcpentries import McpServer
from trillm.registry.store import Store

COLUMNS = ("NAME", "STATE", "TRANSPORT", "ADDRESS", "TOOLS")


@click.command("list", cls=Command, epilog=example("trillm mcp list", "trillm mcp list --json"))
@json_option
@store_option
def list_(store: Store, *, as_json: bool) -> None:
    """List upstream MCP servers."""
    servers = store.read().mcp_servers.values()
    if as_json:
        return say_json({"mcp_servers": [_as_json(server) for server in servers]})
    if not servers:
        return note('There are no MCP servers. Add one: trillm mcp add NAME --url URL, or --command "PROGRAM ARGS"')
    return say_table(COLUMNS, map(_row, servers))


def _row(server: McpServer) -> list[Cell]:
    return [
        Cell(server.name, "bold"),
        Cell("enabled", "green") if server.enabled else Cell("disabled", "dim"),
        Cell(_transport(server)),
        Cell(server.address),
        Cell(", ".join(server.allow_tools) or "all"),
    ]


def _transport(server: McpServer) -> str:
    if server.url is None:
        return "stdio"
    return "websocket" if server.url.startswith("ws") else "http"


@click.command("show", cls=Command, epilog=example("trillm mcp show files"))
@mcp_argument
@json_option
@store_option
def show(store: Store, name: str, *, as_json: bool) -> None:
    """Show the settings of one MCP server."""
    server = find("mcp_servers", store.read().mcp_servers, name)
    if as_json:
        return say_json(_as_json(server))
    for label, value in [("name", name), ("transport", _transport(server)), *_settings(server)]:
        say(f"{label:<12} {printable(value) or NOTHING}")
    return None


def _settings(server: McpServer) -> Iterator[tuple[str, str]]:
    for key, value in _shown(server).to_json().items():
        match value:
            case list():
                yield key, " ".join(map(str, value))
            case dict():
                yield from ((key, f"{name}={text}") for name, text in value.items())
            case _:
                yield key, str(value)


def _as_json(server: McpServer) -> dict[str, Any]:
    return {"name": server.name, "transport": _transport(server), **_shown(server).to_json()}


def _shown(server: McpServer) -> McpServer:
    """Return ``server`` without what may be a secret: unknown fields, and variables that are not taken from ours."""
    env = {name: value if value.startswith("${") else "(not shown)" for name, value in server.env.items()}
    return evolve(server, extra={}, env=env)


@click.command("test", cls=Command, epilog=example("trillm mcp test files"))
@mcp_argument
@json_option
@store_option
async def test(store: Store, name: str, *, as_json: bool) -> None:
    """Connect to an MCP server now, from here, and say what it is."""
    from trillm.cli.mcpasking import ask, describe, describe_json
    from trillm.mcp.logins import Logins

    server = find("mcp_servers", store.read().mcp_servers, name)
    if as_json:
        return say_json(await ask(server, describe_json, logins=Logins.beside(store.path)))
    for line in await ask(server, describe, logins=Logins.beside(store.path)):
        say(line)
    return None


@click.command("tools", cls=Command, epilog=example("trillm mcp tools files", "trillm mcp tools files --json"))
@mcp_argument
@json_option
@store_option
async def tools(store: Store, name: str, *, as_json: bool) -> None:
    """List the tools of an MCP server, asked now, from here."""
    from trillm.cli.mcpasking import ask, find_list, tool_lines
    from trillm.mcp.logins import Logins

    server = find("mcp_servers", store.read().mcp_servers, name)
    found = await ask(server, lambda upstream: find_list(upstream, "tools/list"), logins=Logins.beside(store.path))
    if as_json:
        return say_json({"tools": [tool | {"allowed": server.allows(tool["name"])} for tool in found]})
    if not found:
        return note(f"{name} has no tools.")
    for line in tool_lines(server, found):
        say(line.strip())
    return None


@click.command(
    "call",
    cls=Command,
    epilog=example(
        "trillm mcp call files read_file path=/srv/notes.txt",
        """trillm mcp call git git_log '{"repo_path": "/srv/repo", "max_count": 3}' --json""",
    ),
)
@mcp_argument
@click.argument("tool", metavar="TOOL")
@click.argument("words", metavar="[NAME=VALUE]...", nargs=-1)
@json_option
@store_option
async def call(store: Store, name: str, tool: str, words: tuple[str, ...], *, as_json: bool) -> int:
    """Call a tool of an MCP server now, from here, and print its result."""
    from trillm.cli.mcpasking import ask, call_tool, content_lines
    from trillm.mcp.logins import Logins

    server = find("mcp_servers", store.read().mcp_servers, name)
    result = await ask(server, lambda upstream: call_tool(upstream, tool, words), logins=Logins.beside(store.path))
    if as_json:
        say_json(result)
    else:
        for line in content_lines(result):
            say(line)
    return 1 if result.get("isError") else 0
