"""What the model is offered: the caller's own tools and the servers', as functions, under names that tell them apart.

A server's tool is called ``{server}__{tool}``. Function names are of ``[A-Za-z0-9_-]``, 64 at most, which MCP's need
not be: what does not fit is replaced, and a piece of a hash keeps names apart. Pure.
"""

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from attrs import field, frozen

from trillm.errors import BadRequest
from trillm.gateway.tools.asked import Asked, AskedServer
from trillm.gateway.tools.source import MAX_NAME_CHARS, Tool

MAX_FUNCTION_CHARS = 64

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_HASH_CHARS = 8


@frozen
class Offered:
    """One tool of a server, as the model knows it."""

    server: str
    label: str
    tool: Tool


@frozen
class Offer:
    """See the module's docstring.

    Args:
        tools: the ``tools`` member: the caller's own as they came, the servers' in the place of the entry that asked.
        own_tools: only the caller's own; None if there are none.
        offered: the servers' tools by function name.
        choice: ``tool_choice`` of the first turn, JSON; None leaves it out.
    """

    tools: bytes = field(repr=False)
    own_tools: bytes | None = field(repr=False)
    offered: Mapping[str, Offered] = field(repr=False)
    choice: Any = None

    def first(self) -> dict[str, Any]:
        """Return the members ``tools`` and ``tool_choice`` of the first turn; None leaves one out."""
        return {"tools": msgspec.Raw(self.tools), "tool_choice": self.choice}

    def next(self) -> dict[str, Any]:
        """Return them for a turn after tools have run: what had to be called has been, or it would never end."""
        return {"tools": msgspec.Raw(self.tools), "tool_choice": relaxed(self.choice)}

    def last(self) -> dict[str, Any]:
        """Return them for the turn that must not have any more tools run. The caller's own may still be called."""
        if self.own_tools is None:
            return {"tools": msgspec.Raw(self.tools), "tool_choice": "none"}
        return {"tools": msgspec.Raw(self.own_tools), "tool_choice": None}


def build_offer(asked: Asked, listed: Mapping[str, Sequence[Tool]]) -> Offer:
    """Return what the model is offered.

    Args:
        asked: what the request asks for.
        listed: the tools of each of its servers.

    Raises:
        BadRequest: an allowed tool does not exist, a server has none, a name is taken, or the choice names nothing.
    """
    offered: dict[str, Offered] = {}
    tools: list[Any] = []
    for entry in asked.tools:
        if isinstance(entry, msgspec.Raw):
            tools.append(entry)
            continue
        for tool in _chosen(entry, listed[entry.server]):
            name = function_name(entry.server, tool.name, offered)
            if name in asked.own:
                raise BadRequest(f"The function {name!r} has the name of an MCP tool; rename it.", param="tools")
            offered[name] = Offered(entry.server, entry.label, tool)
            tools.append(_function(name, tool))
    own = [entry for entry in asked.tools if isinstance(entry, msgspec.Raw)]
    own_tools = msgspec.json.encode(own) if own else None
    return Offer(msgspec.json.encode(tools), own_tools, offered, _choice(asked.choice, offered))


def function_name(server: str, tool: str, taken: Mapping[str, object]) -> str:
    """Return the name a tool is offered under, other than those ``taken``."""
    full = f"{server}__{tool}"
    name = _UNFIT.sub("_", full)
    if len(name) <= MAX_FUNCTION_CHARS and name not in taken:
        return name
    mark = hashlib.sha256(full.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
    return f"{name[: MAX_FUNCTION_CHARS - _HASH_CHARS - 1]}_{mark}"


def relaxed(choice: Any) -> Any:
    """Return a ``tool_choice`` that demands a call as one that does not."""
    if choice in (None, "none", "auto"):
        return choice
    if isinstance(choice, dict) and isinstance(choice.get("allowed_tools"), dict):
        return {**choice, "allowed_tools": {**choice["allowed_tools"], "mode": "auto"}}
    return "auto"


def _chosen(asked: AskedServer, listed: Sequence[Tool]) -> list[Tool]:
    by_name = {tool.name: tool for tool in listed}
    chosen = list(by_name.values())
    if asked.allowed is not None:
        missing = next((name for name in asked.allowed if name not in by_name), None)
        if missing is not None:
            raise BadRequest(
                f"{asked.where}.allowed_tools: the MCP server {asked.server!r} has no tool "
                f"{missing[:MAX_NAME_CHARS]!r} for you. {_near(missing, list(by_name))}",
                param="tools",
                code="mcp_tool_not_found",
            )
        chosen = [tool for tool in chosen if tool.name in asked.allowed]
    if not chosen:
        raise BadRequest(
            f"{asked.where}: the MCP server {asked.server!r} offers you no tools.", param="tools", code="mcp_no_tools"
        )
    return chosen


def _near(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name[:MAX_NAME_CHARS], known, n=3)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return f"There are: {', '.join(known[:20])}{', …' if len(known) > 20 else ''}." if known else "It has none at all."


def _function(name: str, tool: Tool) -> dict[str, Any]:
    # OpenAI wants an object's properties named, MCP does not.
    parameters = {"type": "object", "properties": {}, **tool.input_schema}
    function: dict[str, Any] = {"name": name, "parameters": parameters}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _choice(choice: Any, offered: Mapping[str, Offered]) -> Any:
    """Return ``tool_choice`` in chat completions' words: Responses' ``{"type": "mcp", …}`` names a function there."""
    if not isinstance(choice, dict) or choice.get("type") != "mcp":
        return choice
    label, tool = choice.get("server_label"), choice.get("name")
    for name, each in offered.items():
        if label in (each.label, each.server) and tool == each.tool.name:
            return {"type": "function", "function": {"name": name}}
    raise BadRequest(
        "'tool_choice' of type mcp needs 'server_label' and 'name' of a tool that is among the tools.",
        param="tool_choice",
    )
