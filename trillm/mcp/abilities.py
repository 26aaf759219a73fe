"""What each of trillm's own tools does: asks a model, shows a state, changes the registry file."""

import logging
from collections.abc import Callable

import msgspec
import trio
from attrs import evolve
from msgspec import UNSET, Struct

from trillm.backends import KINDS
from trillm.errors import BadRequest, ConfigError
from trillm.gateway import status
from trillm.mcp import arguments as shapes
from trillm.mcp.asking import ask, ask_streamed
from trillm.mcp.house import House, shown_models, shown_servers
from trillm.mcp.session import Params, Request
from trillm.models import Operation
from trillm.registry.document import Document, Server

log = logging.getLogger(__name__)


def _given(struct: Struct, *names: str) -> Params:
    return {name: value for name in names if (value := getattr(struct, name)) is not UNSET}


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def chat(house: House, request: Request, taken: shapes.Chat) -> shapes.Chatted:
    """Let a model answer; with progress if the client wants to know."""
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


async def embed(house: House, request: Request, taken: shapes.Embed) -> shapes.Embedded:
    """Turn texts into vectors."""
    body = {"model": taken.model, "input": taken.input, **_given(taken, "dimensions")}
    answer, server = await ask(house.gateway, request.session.caller, Operation.EMBEDDINGS, body)
    vectors = sorted(answer.get("data") or (), key=lambda item: item.get("index", 0))
    return shapes.Embedded(embeddings=[item["embedding"] for item in vectors], **_about(answer, taken.model, server))


async def rerank(house: House, request: Request, taken: shapes.Rerank) -> shapes.Reranked:
    """Order documents by a query."""
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


async def list_models(house: House, request: Request, taken: shapes.ListModels) -> shapes.Models:
    """Name the models that may be asked now."""
    models = [msgspec.convert(model, shapes.ListedModel) for model in shown_models(house, request)]
    return shapes.Models([m for m in models if taken.capability is UNSET or taken.capability in m.capabilities])


async def server_status(house: House, request: Request, taken: shapes.ServerStatus) -> shapes.Statuses:
    """Show how the servers are; raise :class:`BadRequest` for one that does not exist."""
    servers = shown_servers(house, request)
    if taken.name is not UNSET:
        if taken.name not in servers:
            raise BadRequest(f"No server named {taken.name!r}; there are: {', '.join(servers) or 'none'}.")
        servers = {taken.name: servers[taken.name]}
    ready = status.readiness(house.gateway, house.registry, detailed=False)["ready"]
    return shapes.Statuses(ready, list(servers.values()))


# ── administration ──────────────────────────────────────────────────────────────────────────────────────────────────


async def add_server(house: House, _request: Request, taken: shapes.AddServer) -> shapes.Done:
    """Add a server to the registry file; raise :class:`ConfigError` when its name is taken or a field is bad.

    One that needs a key is added on this machine: who may send our environment's variables to a URL of their choice
    has all of them.
    """
    settings = _given(taken, "kind", "max_concurrent")
    server = Server(taken.name, taken.url, **settings)
    if server.kind is not None and server.kind not in KINDS:
        raise BadRequest(f"{server.kind!r} is not a kind of server; there are: {', '.join(KINDS)}.")

    def change(document: Document) -> Document:
        if server.name in document.servers:
            raise ConfigError(server.where, "there is a server of that name: remove it, or choose another")
        return document.with_server(server)

    return await _changed(house, change, f"Added {server.name}.")


async def remove_server(house: House, _request: Request, taken: shapes.OneServer) -> shapes.Done:
    """Take a server out of the registry file; raise :class:`ConfigError` when there is none, or a route needs it."""
    return await _changed(house, lambda document: document.without_server(taken.name), f"Removed {taken.name}.")


async def enable_server(house: House, _request: Request, taken: shapes.OneServer) -> shapes.Done:
    """Let a server be sent requests again."""
    return await _changed(house, _switched(taken.name, enabled=True), f"Enabled {taken.name}.")


async def disable_server(house: House, _request: Request, taken: shapes.OneServer) -> shapes.Done:
    """Keep a server and send it nothing."""
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
