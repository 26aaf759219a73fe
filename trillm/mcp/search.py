"""Finding tools instead of listing them: beyond a number, a model is shown ``search_tools`` and ``call_tool``.

Ranks by a rerank model of trillm's own, or, without one or when that fails, by the words they have in common.
"""

import json
import re

from attrs import define

from trillm import lexical
from trillm.errors import TrillmError
from trillm.gateway.gateway import Gateway
from trillm.mcp.asking import ask
from trillm.mcp.errors import INVALID_PARAMS, RpcError
from trillm.mcp.house import ToolSearch
from trillm.mcp.session import Params, Request
from trillm.models import Operation

SEARCH, CALL = "search_tools", "call_tool"
FOUND, MOST_FOUND = 8, 50
#: So much of each tool is ranked by a model: ranking a thousand tools is one call.
RANKED_CHARS = 600

_TOOLS = (
    {
        "name": SEARCH,
        "title": "Search tools",
        "description": "Find tools by what they are to do. Call those that are found by call_tool.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What is to be done."},
                "limit": {"type": "integer", "minimum": 1, "maximum": MOST_FOUND, "description": "Tools to return."},
            },
            "required": ["query"],
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    },
    {
        "name": CALL,
        "title": "Call a tool",
        "description": "Call a tool that search_tools has found.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "The tool's name, as search_tools returned it."},
                "arguments": {"type": "object", "description": "As the tool's inputSchema wants them."},
            },
            "required": ["name"],
        },
    },
)


@define(eq=False)
class Search:
    """Stands in for long lists of tools.

    Args:
        settings: when, and by which model.
        gateway: ranks.
    """

    settings: ToolSearch
    gateway: Gateway

    def replaces(self, count: int) -> bool:
        """Tell whether so many tools of upstreams are not listed."""
        return self.settings.above is not None and count > self.settings.above

    @property
    def tools(self) -> list[Params]:
        """The two that are listed in their place."""
        return [dict(tool) for tool in _TOOLS]

    async def find(self, request: Request, tools: list[Params]) -> Params:
        """Answer a call of ``search_tools``.

        Args:
            request: the call.
            tools: all that the caller may call, under their public names.

        Raises:
            RpcError: the arguments are none of its.
        """
        arguments = request.params.get("arguments") or {}
        query, limit = arguments.get("query"), arguments.get("limit", FOUND)
        if not isinstance(query, str) or not query.strip():
            raise RpcError(INVALID_PARAMS, "'query' must be a text: what is to be done.")
        if not isinstance(limit, int) or not 1 <= limit <= MOST_FOUND:
            raise RpcError(INVALID_PARAMS, f"'limit' must be a whole number from 1 to {MOST_FOUND}.")
        best = (await self._ranked(request, query, tools))[:limit]
        found = {"tools": [shown(tool) for tool in best]}
        return {"content": [{"type": "text", "text": json.dumps(found)}], "structuredContent": found, "isError": False}

    async def _ranked(self, request: Request, query: str, tools: list[Params]) -> list[Params]:
        documents = [as_document(tool) for tool in tools]
        if self.settings.model is not None and documents:
            body = {"model": self.settings.model, "query": query, "documents": [d[:RANKED_CHARS] for d in documents]}
            try:
                answer, _ = await ask(self.gateway, request.session.caller, Operation.RERANK, body)
                return [tools[result["index"]] for result in answer["results"]]
            except TrillmError as error:
                await request.log("warning", {"tool": SEARCH, "error": error.message})
        return [tools[index] for index, score in lexical.rank(query, documents) if score > 0]


def called(request: Request) -> Request:
    """Return the request that a call of ``call_tool`` stands for.

    Raises:
        RpcError: the arguments are none of its.
    """
    arguments = request.params.get("arguments") or {}
    name, given = arguments.get("name"), arguments.get("arguments", {})
    if not isinstance(name, str) or not isinstance(given, dict):
        raise RpcError(INVALID_PARAMS, "'name' must be a text and 'arguments' an object.")
    params = {**request.params, "name": name, "arguments": given}
    return Request(request.id, request.method, params, request.session, request.notify, request.ask)


def shown(tool: Params) -> Params:
    """Return what a model needs of a tool to call it."""
    return {key: tool[key] for key in ("name", "title", "description", "inputSchema") if key in tool}


def as_document(tool: Params) -> str:
    """Return a tool as a text to rank: the words of its name, what it does, what it takes."""
    name = re.sub(r"[_\-.]+|(?<=[a-z])(?=[A-Z])", " ", tool["name"])
    properties = (tool.get("inputSchema") or {}).get("properties")
    arguments = " ".join(properties) if isinstance(properties, dict) else ""
    return " ".join(filter(None, [name, tool.get("title"), tool.get("description"), arguments.replace("_", " ")]))
