"""The tools trillm itself offers: what they are called, what they take and give, who may call them, what they do."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio
from attrs import evolve, frozen
from msgspec import UNSET, Struct

from trillm.backends import KINDS
from trillm.errors import BadRequest, ConfigError, Forbidden, TrillmError
from trillm.gateway import status
from trillm.mcp import arguments as shapes
from trillm.mcp.asking import ask, ask_streamed
from trillm.mcp.errors import INVALID_PARAMS, NOT_ALLOWED, RpcError, rpc_error
from trillm.mcp.house import House, shown_models, shown_servers
from trillm.mcp.paging import page
from trillm.mcp.session import Params, Request
from trillm.models import Operation
from trillm.registry.document import Document, Server

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


def _given(struct: Struct, *names: str) -> Params:
    return {name: value for name in names if (value := getattr(struct, name)) is not UNSET}


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _chat(house: House, request: Request, taken: shapes.Chat) -> shapes.Chatted:
    body = {
        "model": taken.model,
        "messages": _conversation(taken),
        **_given(taken, "max_tokens", "temperature", "top_p", "seed", "stop"),
    }
    if request.progress_token is None:
        answer, server = await ask(house.gateway, request.session.caller, Operation.CHAT, body)
    else:
        answer, server = await ask_streamed(house.gateway, request, body)
    await request.log("debug", {"tool": "chat", "model": taken.model, "server": server})
    choice = (answer.get("choices") or [{}])[0]
    content = (choice.get("message") or {}).get("content") or ""
    about = _about(answer, taken.model, server)
    return shapes.Chatted(content=content, finish_reason=choice.get("finish_reason"), **about)


def _conversation(taken: shapes.Chat) -> list[Params]:
    if (taken.prompt is UNSET) == (taken.messages is UNSET):
        raise BadRequest("Give either 'prompt' or 'messages'.")
    messages: list[Params] = [] if taken.system is UNSET else [{"role": "system", "content": taken.system}]
    if isinstance(taken.prompt, str):
        return [*messages, {"role": "user", "content": taken.prompt}]
    said = [] if taken.messages is UNSET else taken.messages
    return messages + [{"role": message.role, "content": message.content} for message in said]


async def _embed(house: House, request: Request, taken: shapes.Embed) -> shapes.Embedded:
    body = {"model": taken.model, "input": taken.input, **_given(taken, "dimensions")}
    answer, server = await ask(house.gateway, request.session.caller, Operation.EMBEDDINGS, body)
    vectors = sorted(answer.get("data") or (), key=lambda item: item.get("index", 0))
    return shapes.Embedded(embeddings=[item["embedding"] for item in vectors], **_about(answer, taken.model, server))


async def _rerank(house: House, request: Request, taken: shapes.Rerank) -> shapes.Reranked:
    body = {"model": taken.model, "query": taken.query, "documents": taken.documents, **_given(taken, "top_n")}
    answer, server = await ask(house.gateway, request.session.caller, Operation.RERANK, body)
    ranked = [shapes.Ranked(item["index"], item["relevance_score"]) for item in answer.get("results") or ()]
    return shapes.Reranked(results=ranked, **_about(answer, taken.model, server))


def _about(answer: Params, model: str, server: str | None) -> Params:
    usage = answer.get("usage")
    return {
        "model": str(answer.get("model") or model),
        "server": UNSET if server is None else server,
        "usage": usage if isinstance(usage, dict) else UNSET,
    }


# ── what there is ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _list_models(house: House, request: Request, taken: shapes.ListModels) -> shapes.Models:
    models = [msgspec.convert(model, shapes.ListedModel) for model in shown_models(house, request)]
    return shapes.Models([m for m in models if taken.capability is UNSET or taken.capability in m.capabilities])


async def _server_status(house: House, request: Request, taken: shapes.ServerStatus) -> shapes.Statuses:
    servers = shown_servers(house, request)
    if taken.name is not UNSET:
        if taken.name not in servers:
            raise BadRequest(f"No server named {taken.name!r}; there are: {', '.join(servers) or 'none'}.")
        servers = {taken.name: servers[taken.name]}
    ready = status.readiness(house.gateway, house.registry, detailed=False)["ready"]
    return shapes.Statuses(ready, list(servers.values()))


# ── administration ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _add_server(house: House, _request: Request, taken: shapes.AddServer) -> shapes.Done:
    settings = _given(taken, "kind", "api_key_env", "max_concurrent")
    server = Server(taken.name, taken.url, **settings)
    if server.kind is not None and server.kind not in KINDS:
        raise BadRequest(f"{server.kind!r} is not a kind of server; there are: {', '.join(KINDS)}.")

    def change(document: Document) -> Document:
        if server.name in document.servers:
            raise ConfigError(server.where, "there is a server of that name: remove it, or choose another")
        return document.with_server(server)

    return await _changed(house, change, f"Added {server.name}.")


async def _remove_server(house: House, _request: Request, taken: shapes.OneServer) -> shapes.Done:
    return await _changed(house, lambda document: document.without_server(taken.name), f"Removed {taken.name}.")


async def _enable_server(house: House, _request: Request, taken: shapes.OneServer) -> shapes.Done:
    return await _changed(house, _switched(taken.name, enabled=True), f"Enabled {taken.name}.")


async def _disable_server(house: House, _request: Request, taken: shapes.OneServer) -> shapes.Done:
    return await _changed(house, _switched(taken.name, enabled=False), f"Disabled {taken.name}.")


def _switched(name: str, *, enabled: bool) -> Callable[[Document], Document]:
    def change(document: Document) -> Document:
        server = document.servers.get(name)
        if server is None:
            raise ConfigError(f"servers.{name}", f"no server of that name; there are: {', '.join(document.servers)}")
        return document.with_server(evolve(server, enabled=enabled))

    return change


async def _changed(house: House, change: Callable[[Document], Document], done: str) -> shapes.Done:
    """Change the registry file, as the command line does; the running server follows it by itself."""
    await trio.to_thread.run_sync(house.registry.store.update, change)
    log.info("registry changed over mcp done=%s", done)
    return shapes.Done(done)


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
        _chat,
        _GENERATES,
    ),
    Tool(
        "embed",
        "Embed texts",
        "Turn texts into vectors whose closeness is closeness of meaning.",
        shapes.Embed,
        shapes.Embedded,
        _embed,
        _READS,
    ),
    Tool(
        "rerank",
        "Rank documents",
        "Order documents by how well they answer a query.",
        shapes.Rerank,
        shapes.Reranked,
        _rerank,
        _READS,
    ),
    Tool(
        "list_models",
        "List models",
        "List the models that can be asked now, and what each can do.",
        shapes.ListModels,
        shapes.Models,
        _list_models,
        _READS,
    ),
    Tool(
        "server_status",
        "Show servers",
        "Show how the servers behind this gateway are doing.",
        shapes.ServerStatus,
        shapes.Statuses,
        _server_status,
        _READS,
    ),
    Tool(
        "add_server",
        "Add a server",
        "Put another LLM server behind this gateway.",
        shapes.AddServer,
        shapes.Done,
        _add_server,
        _ADDS,
        admin=True,
    ),
    Tool(
        "remove_server",
        "Remove a server",
        "Take a server out of this gateway's registry.",
        shapes.OneServer,
        shapes.Done,
        _remove_server,
        _REMOVES,
        admin=True,
    ),
    Tool(
        "enable_server",
        "Enable a server",
        "Let a server be sent requests again.",
        shapes.OneServer,
        shapes.Done,
        _enable_server,
        _SWITCHES,
        admin=True,
    ),
    Tool(
        "disable_server",
        "Disable a server",
        "Keep a server in the registry and send it nothing.",
        shapes.OneServer,
        shapes.Done,
        _disable_server,
        _SWITCHES,
        admin=True,
    ),
)
_BY_NAME = {tool.name: tool for tool in TOOLS}
