"""``trillm mcp``: what changes an upstream MCP server. What only looks is in :mod:`trillm.cli.mcpviews`."""

import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import asyncclick as click
from attrs import evolve

from trillm.cli import mcplogin, mcpstdio, mcpviews
from trillm.cli.command import SECONDS, Group, example
from trillm.cli.live import say_followed
from trillm.cli.output import say
from trillm.cli.registry import find, mcp_argument, store_option
from trillm.errors import ConfigError
from trillm.registry.document import Document
from trillm.registry.mcpentries import ERAS, SESSIONS, McpServer
from trillm.registry.store import Store

F = TypeVar("F", bound=Callable[..., Any])

FILES = 'trillm mcp add files --command "npx -y @modelcontextprotocol/server-filesystem /srv"'

SETTINGS = (
    click.option("--url", metavar="URL", help="Where it is: http(s), or ws(s) for WebSocket."),
    click.option("--command", "command_line", metavar="COMMAND", help="The program to start, with its arguments."),
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable for the program; ${VAR} is ours."),
    click.option("--cwd", metavar="FOLDER", help="Where the program starts."),
    click.option("--header-env", multiple=True, metavar="HEADER=VAR", help="A header, from a variable of ours."),
    click.option("--allow-tool", "allow_tools", multiple=True, metavar="PATTERN", help="Offer only these; repeatable."),
    click.option("--era", type=click.Choice(ERAS), help="The protocol's. [default: found by asking]"),
    click.option("--sessions", type=click.Choice(SESSIONS), help="Who shares a session with it. [default: auto]"),
    click.option("--sampling", metavar="MODEL", help="The model that answers when it asks for one."),
    click.option("--start-timeout", "start_s", type=SECONDS, metavar="SECONDS", help="To connect. [default: 30]"),
    click.option("--call-timeout", "call_s", type=SECONDS, metavar="SECONDS", help="For a call. [default: 600]"),
    click.option("--idle", "idle_s", type=SECONDS, metavar="SECONDS", help="Unused, it is closed. [default: 300]"),
    click.option("--enabled/--disabled", default=None, help="Whether it is offered."),
    click.option("--no-check", is_flag=True, help="Do not connect to it."),
)


def settings_options(command: F) -> F:
    """Add the settings of an MCP server, each None or empty when not given."""
    for option in reversed(SETTINGS):
        command = option(command)
    return command


@click.group(cls=Group, epilog=example(FILES, "trillm mcp list"))
def command() -> None:
    """Offer the tools of other MCP servers, and look at them."""


@command.command(
    epilog=example(
        FILES,
        "trillm mcp add docs --url https://docs.example/mcp --header-env Authorization=DOCS_TOKEN",
        'trillm mcp add git --command "uvx mcp-server-git" --allow-tool "git_*" --env LEVEL=info',
    )
)
@click.argument("name", metavar="NAME")
@settings_options
@click.option("--replace", is_flag=True, help="Replace the server of that name.")
@store_option
async def add(store: Store, name: str, *, no_check: bool, replace: bool, **options: Any) -> None:
    """Connect to an MCP server, say what it is, and add it."""
    server = McpServer(name, **_fields(name, options))
    _refuse_taken(store.read(), server, replace=replace)
    if not no_check:
        await _check(server)

    def change(document: Document) -> Document:
        _refuse_taken(document, server, replace=replace)
        return document.with_mcp_server(server)

    _change(store, change, f"Added {name}. Its tools are offered as {name}__TOOL, and as they are at /mcp/{name}.")


@command.command(epilog=example("trillm mcp remove files"))
@mcp_argument
@store_option
def remove(store: Store, name: str) -> None:
    """Remove an MCP server; its sessions and its process are ended."""
    _change(store, lambda document: document.without_mcp_server(name), f"Removed {name}.")


@command.command(epilog=example("trillm mcp enable files"))
@mcp_argument
@store_option
def enable(store: Store, name: str) -> None:
    """Offer an MCP server again."""
    _switch(store, name, enabled=True)


@command.command(epilog=example("trillm mcp disable files"))
@mcp_argument
@store_option
def disable(store: Store, name: str) -> None:
    """Keep an MCP server and offer nothing of it."""
    _switch(store, name, enabled=False)


def _fields(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the entry from the options that were given."""
    given = {key: value for key, value in options.items() if value not in (None, ())}
    where = f"mcp_servers.{name}"
    for key in {"env", "header_env"} & given.keys():
        given[key] = dict(_pair(f"{where}.{key}", text) for text in given[key])
    if "command_line" in given:
        given["command"], *given["args"] = _words(f"{where}.command", given.pop("command_line"))
        given["args"] = tuple(given["args"])
    return given


def _pair(where: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(where, "must be NAME=VALUE")
    return name, value


def _words(where: str, line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError(where, f"{error}: quote what belongs together") from error
    if not words:
        raise ConfigError(where, "is empty")
    return words


def _refuse_taken(document: Document, server: McpServer, *, replace: bool) -> None:
    if server.name in document.mcp_servers and not replace:
        problem = "there is an MCP server of that name: choose another, or add --replace"
        raise ConfigError(server.where, problem)


async def _check(server: McpServer) -> None:
    """Connect to ``server`` and say what it is; what cannot be reached is refused."""
    from trillm.cli.mcpasking import ask, describe

    try:
        lines = await ask(server, describe)
    except ConfigError as error:
        advice = "start it, correct the entry, or add --no-check"
        raise ConfigError(error.where, f"{error.problem}: {advice}") from error
    for line in lines:
        say(line)


def _switch(store: Store, name: str, *, enabled: bool) -> None:
    def change(document: Document) -> Document:
        return document.with_mcp_server(evolve(find("mcp_servers", document.mcp_servers, name), enabled=enabled))

    _change(store, change, f"{'Enabled' if enabled else 'Disabled'} {name}.")


def _change(store: Store, change: Callable[[Document], Document], done: str) -> None:
    store.update(change)
    say(done)
    say_followed(store.path)


for elsewhere in (
    *(mcpviews.list_, mcpviews.show, mcpviews.test, mcpviews.tools, mcpviews.call),
    *(mcplogin.login, mcplogin.logout, mcpstdio.command),
):
    command.add_command(elsewhere)
