"""Connecting to an MCP server from the command line, without a trillm that runs, and saying what it answered."""

import json
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from trillm.cli.command import only
from trillm.cli.output import note, printable
from trillm.errors import BadRequest, ConfigError, TrillmError, UpstreamFailed
from trillm.mcp.errors import RpcError
from trillm.mcp.groups import open_groups
from trillm.mcp.listing import KINDS, Lists
from trillm.mcp.logins import Logins
from trillm.mcp.session import META, Params
from trillm.mcp.signing import signer_of
from trillm.mcp.upstream import Client, Upstream, open_session
from trillm.registry.mcpentries import McpServer

T = TypeVar("T")


async def ask(
    server: McpServer, work: Callable[[Upstream], Awaitable[T]], *, logins: Logins | None = None, auth: Any = None
) -> T:
    """Return what ``work`` makes of a session with ``server``.

    Args:
        server: asked from here.
        work: is given the session.
        logins: where its login is, if it has one.
        auth: what signs requests in the place of that.

    Raises:
        ConfigError: it cannot be reached or started, or does not speak MCP.
        UpstreamFailed: it answered with an error.
    """

    def signer(server: McpServer) -> Any:
        return auth or (signer_of(server, logins) if logins else None)

    opening = partial(open_session, server, Client(), era=server.era, schemas=lambda _: None, signer=signer)
    try:
        with open_groups() as groups:
            async with opening(groups=groups) as upstream:
                return await work(upstream)
    except (BaseExceptionGroup, RpcError, TrillmError) as caught:
        error = only(caught)
        if isinstance(error, RpcError):
            raise UpstreamFailed(f"{server.name} answered: {error.message} ({error.code})") from error
        if isinstance(error, UpstreamFailed):
            raise ConfigError(server.where, f"{error.message} ({server.address})") from error
        raise error from None


async def find_all(upstream: Upstream) -> dict[str, list[Params]]:
    """Return everything it offers, by kind."""
    return {kind: await find_list(upstream, method) for method, (kind, _) in KINDS.items()}


async def find_list(upstream: Upstream, method: str) -> list[Params]:
    """Return one list of it, empty when it has none of the kind."""
    if method.partition("/")[0] not in upstream.capabilities:
        return []

    async def page(params: Params) -> Params:
        return await upstream.request(method, params)

    try:
        return list((await Lists(upstream.server.name).fetch(method, page, {})).items)
    except RpcError as error:
        note(f"{method}: {error.message}")
        return []


async def describe(upstream: Upstream) -> list[str]:
    """Return lines for a person: what it is, and what it offers."""
    found = await find_all(upstream)
    info = _info(upstream)
    counts = ", ".join(_counted(len(items), _LABELS[kind]) for kind, items in found.items() if items)
    name = " ".join(filter(None, [str(info.get("name", "")), str(info.get("version", ""))])) or "an MCP server"
    first = (
        f"{upstream.server.address} is {printable(name)}, MCP {upstream.version}, with {counts or 'nothing to offer'}."
    )
    return [first, *tool_lines(upstream.server, found["tools"])]


_LABELS = {"tools": "tool", "prompts": "prompt", "resources": "resource", "resourceTemplates": "resource template"}


def _counted(count: int, label: str) -> str:
    return f"{count} {label}" if count == 1 else f"{count} {label}s"


def tool_lines(server: McpServer, tools: list[Params]) -> Iterator[str]:
    """Yield a line for each tool."""
    for tool in tools:
        about = str(tool.get("description") or tool.get("title") or "").strip().partition("\n")[0]
        hidden = "" if server.allows(tool["name"]) else "  (not allowed)"
        yield f"  {printable(tool['name'])}{hidden}" + (f"  {printable(about)[:100]}" if about else "")


async def describe_json(upstream: Upstream) -> Params:
    """Return the same for programs."""
    found = await find_all(upstream)
    return {
        "name": upstream.server.name,
        "address": upstream.server.address,
        "version": upstream.version,
        "server": _info(upstream),
        "capabilities": upstream.capabilities,
        "instructions": upstream.described.get("instructions"),
        **{kind: [item[KINDS[method][1]] for item in found[kind]] for method, (kind, _) in KINDS.items()},
    }


def _info(upstream: Upstream) -> Params:
    told = upstream.described
    info = told.get("serverInfo") or (told.get("_meta") or {}).get(f"{META}serverInfo")
    return info if isinstance(info, dict) else {}


async def call_tool(upstream: Upstream, tool: str, words: tuple[str, ...]) -> Params:
    """Call a tool and return its result.

    Args:
        upstream: whose.
        tool: its name there.
        words: ``NAME=VALUE`` each, or one JSON object.

    Raises:
        BadRequest: there is no such tool, or ``words`` are no arguments of it.
    """
    tools = {found["name"]: found for found in await find_list(upstream, "tools/list")}
    if tool not in tools:
        raise BadRequest(f"{upstream.server.name} has no tool {tool!r}; it has: {', '.join(tools) or 'none'}")
    arguments = read_arguments(words, tools[tool].get("inputSchema") or {})
    told = {"name": tool, "arguments": arguments}
    return await upstream.request("tools/call", told, on_progress=_note_progress)


def read_arguments(words: tuple[str, ...], schema: Params) -> Params:
    """Return a tool's arguments from the command line's: a text where its schema wants one, else JSON if it is any."""
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return _json_object(words[0])
    arguments: Params = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BadRequest(f"{word!r} is no argument: write NAME=VALUE, or all of them as one JSON object")
        arguments[name] = _value(value, (schema.get("properties") or {}).get(name))
    return arguments


def _value(text: str, schema: Any) -> Any:
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json_object(text: str) -> Params:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"the arguments are no JSON: {error}") from error
    return dict(value)


def _note_progress(told: Params) -> None:
    of = f"/{told['total']:g}" if isinstance(told.get("total"), int | float) else ""
    note(f"{told.get('progress')}{of} {told.get('message') or ''}".rstrip())


def content_lines(result: Params) -> Iterator[str]:
    """Yield what a tool's result says, for a person: texts as they are, the rest by name."""
    for block in result.get("content") or ():
        match block:
            case {"type": "text", "text": str(text)}:
                yield from map(printable, text.splitlines() or [""])
            case {"type": "resource_link", "uri": uri}:
                yield printable(f"[{uri}]")
            case {"type": kind}:
                yield printable(f"[{kind} {block.get('mimeType', '')}]".replace(" ]", "]"))
    if not result.get("content") and result.get("structuredContent") is not None:
        yield json.dumps(result["structuredContent"], indent=2)
