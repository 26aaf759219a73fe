"""The tools trillm itself offers: what they are called, what they take and give, who may call them, what they do."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from attrs import frozen
from msgspec import Struct

from trillm.errors import Forbidden, TrillmError
from trillm.mcp import abilities
from trillm.mcp import arguments as shapes
from trillm.mcp.errors import INVALID_PARAMS, NOT_ALLOWED, RpcError, rpc_error
from trillm.mcp.house import House
from trillm.mcp.paging import page
from trillm.mcp.session import Params, Request

log = logging.getLogger(__name__)


Run = Callable[[House, Request, Any], Awaitable[Struct]]


@frozen
class Tool:
    """One tool.

    Args:
        name: what it is called by.
        title: for people.
        description: for models.
        takes: the shape of its arguments.
        gives: the shape of its structured result.
        run: does it.
        annotations: the specification's hints.
        admin: whether only administrators are shown it.
    """

    name: str
    title: str
    description: str
    takes: type[Struct]
    gives: type[Struct]
    run: Run
    annotations: Params
    admin: bool = False

    def to_json(self) -> Params:
        """Return what ``tools/list`` says of it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": shapes.schema(self.takes),
            "outputSchema": shapes.schema(self.gives),
            "annotations": self.annotations,
        }


def offered(request: Request) -> list[Tool]:
    """Return the tools that the caller may use."""
    return [tool for tool in TOOLS if _allowed(tool, request)]


def _allowed(tool: Tool, request: Request) -> bool:
    caller = request.session.caller
    return caller.grants.allow_tool(tool.name) and (caller.is_admin or not tool.admin)


async def list_tools(_house: House, request: Request) -> Params:
    """Answer ``tools/list``."""
    return page("tools", [tool.to_json() for tool in offered(request)], request.params)


async def call_tool(house: House, request: Request) -> Params:
    """Answer ``tools/call``.

    What a model may mend by calling again otherwise is a result with ``isError``, as the specification wants it.

    Raises:
        RpcError: there is no such tool, or the caller may not use it.
    """
    name = request.params.get("name")
    tool = _BY_NAME.get(str(name))
    if tool is None:
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {name!r}. There are: {', '.join(_BY_NAME)}.")
    if not _allowed(tool, request):
        raise RpcError(NOT_ALLOWED, f"The key used is not for the tool {name!r}.")
    try:
        taken = shapes.read(tool.takes, request.params.get("arguments") or {})
        given = await tool.run(house, request, taken)
    except Forbidden as exc:
        raise rpc_error(exc) from exc
    except msgspec.ValidationError as exc:
        return _failed(f"Invalid arguments for {name}: {exc}.")
    except TrillmError as exc:
        await request.log("warning", {"tool": tool.name, "error": exc.message})
        return _failed(exc.message)
    structured = msgspec.to_builtins(given)
    text = structured["content"] if tool.gives is shapes.Chatted else msgspec.json.encode(structured).decode()
    return {"content": [{"type": "text", "text": text}], "structuredContent": structured, "isError": False}


def _failed(message: str) -> Params:
    return {"content": [{"type": "text", "text": message}], "isError": True}


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────

_READS = {"readOnlyHint": True, "openWorldHint": False}
#: A model's answer changes nothing here, and is not the same twice.
_GENERATES = {"readOnlyHint": True, "idempotentHint": False, "openWorldHint": True}
_ADDS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": False}
_SWITCHES = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
_REMOVES = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": False}

TOOLS = (
    Tool(
        "chat",
        "Ask a language model",
        "Let one of this gateway's language models answer a prompt or continue a conversation.",
        shapes.Chat,
        shapes.Chatted,
        abilities.chat,
        _GENERATES,
    ),
    Tool(
        "embed",
        "Embed texts",
        "Turn texts into vectors whose closeness is closeness of meaning.",
        shapes.Embed,
        shapes.Embedded,
        abilities.embed,
        _READS,
    ),
    Tool(
        "rerank",
        "Rank documents",
        "Order documents by how well they answer a query.",
        shapes.Rerank,
        shapes.Reranked,
        abilities.rerank,
        _READS,
    ),
    Tool(
        "list_models",
        "List models",
        "List the models that can be asked now, and what each can do.",
        shapes.ListModels,
        shapes.Models,
        abilities.list_models,
        _READS,
    ),
    Tool(
        "server_status",
        "Show servers",
        "Show how the servers behind this gateway are doing.",
        shapes.ServerStatus,
        shapes.Statuses,
        abilities.server_status,
        _READS,
    ),
    Tool(
        "add_server",
        "Add a server",
        "Put another LLM server behind this gateway.",
        shapes.AddServer,
        shapes.Done,
        abilities.add_server,
        _ADDS,
        admin=True,
    ),
    Tool(
        "remove_server",
        "Remove a server",
        "Take a server out of this gateway's registry.",
        shapes.OneServer,
        shapes.Done,
        abilities.remove_server,
        _REMOVES,
        admin=True,
    ),
    Tool(
        "enable_server",
        "Enable a server",
        "Let a server be sent requests again.",
        shapes.OneServer,
        shapes.Done,
        abilities.enable_server,
        _SWITCHES,
        admin=True,
    ),
    Tool(
        "disable_server",
        "Disable a server",
        "Keep a server in the registry and send it nothing.",
        shapes.OneServer,
        shapes.Done,
        abilities.disable_server,
        _SWITCHES,
        admin=True,
    ),
)
_BY_NAME = {tool.name: tool for tool in TOOLS}
