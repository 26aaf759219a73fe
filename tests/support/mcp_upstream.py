"""An MCP server of the SDK's own making, as a program: what trillm is a gateway to in tests.

    python mcp_upstream.py stdio|http|ws [--era both|legacy|modern] [--port N] [--journal FILE] [--name NAME]

``http`` and ``ws`` print the URL. The journal gets a line when ``sleep`` starts and one when it is cancelled.
"""

import argparse
import os
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import anyio
import mcp_types as t
import trio
import trio_websocket
from hypercorn.config import Config
from hypercorn.trio import serve
from mcp.server import Server, ServerRequestContext
from mcp.server.runner import serve_dual_era_loop, serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

TEXT = {"type": "string"}
NOTHING = {"type": "object", "properties": {}}
ADD = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
HEADED = {"type": "object", "properties": {"region": TEXT | {"x-mcp-header": "Region"}}, "required": ["region"]}
NAMED = {"type": "object", "properties": {"name": TEXT}, "required": ["name"]}
TOOLS = {
    "add": ("Add two integers", ADD),
    "count": ("Tell progress and log three times", NOTHING),
    "steps": ("Tell progress fifty times", NOTHING),
    "sleep": ("Sleep for ever", NOTHING),
    "ask": ("Ask the user's name", NOTHING),
    "sample": ("Ask a model", NOTHING),
    "roots": ("Ask where the client works", NOTHING),
    "touch": ("Change demo://clock", NOTHING),
    "grow": ("Add a tool", NOTHING),
    "remember": ("Return how often this session has called it", NOTHING),
    "headed": ("Needs a header", HEADED),
    "exit": ("End the process", NOTHING),
}

bus = InMemorySubscriptionBus()
subscribed: dict[str, list[Any]] = {}
remembered: dict[int, int] = {}
extra: list[str] = []
journal: list[Path] = []


def write(line: str) -> None:
    for path in journal:
        with path.open("a") as file:
            file.write(line + "\n")


def text(said: str) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(type="text", text=said)])


async def list_tools(_ctx: Any, _params: Any) -> t.ListToolsResult:
    known = [t.Tool(name=n, description=d, input_schema=s) for n, (d, s) in TOOLS.items()]
    return t.ListToolsResult(tools=[*known, *(t.Tool(name=n, input_schema=NOTHING) for n in extra)])


async def call_tool(ctx: ServerRequestContext, p: t.CallToolRequestParams) -> Any:
    if p.name not in (*TOOLS, *extra):
        raise MCPError(t.INVALID_PARAMS, f"Unknown tool: {p.name}")
    handler = globals().get(f"tool_{p.name}")
    return await handler(ctx, p) if handler else text("a new one")


async def tool_add(_ctx: Any, p: t.CallToolRequestParams) -> Any:
    arguments = p.arguments or {}
    return text(str(arguments["a"] + arguments["b"]))


async def tool_count(ctx: ServerRequestContext, _p: Any) -> Any:
    for step in range(1, 4):
        await ctx.session.report_progress(step, 3, f"step {step}")
        await ctx.session.send_log_message("info", f"step {step}", related_request_id=ctx.request_id)
    return text("counted")


async def tool_steps(ctx: ServerRequestContext, _p: Any) -> Any:
    for step in range(1, 51):
        await ctx.session.report_progress(step, 50)
    return text("counted")


async def tool_sleep(_ctx: Any, _p: Any) -> Any:
    write("started")
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        write("cancelled")
        raise


async def ask(ctx: ServerRequestContext, p: t.CallToolRequestParams, request: Any, reply: Any) -> Any:
    """Ask the client, in the way of the era."""
    if ctx.session.can_send_request:
        return await ctx.session.send_request(request, reply, related_request_id=ctx.request_id)
    if p.input_responses:
        assert p.request_state == "state 1"
        return p.input_responses["it"]
    return t.InputRequiredResult(input_requests={"it": request}, request_state="state 1")


async def tool_ask(ctx: ServerRequestContext, p: t.CallToolRequestParams) -> Any:
    form = t.ElicitRequestFormParams(message="Your name?", requested_schema=NAMED)
    if ctx.session.can_send_request:
        said = await ctx.session.elicit_form(form.message, NAMED, related_request_id=ctx.request_id)
    else:
        said = await ask(ctx, p, t.ElicitRequest(params=form), t.ElicitResult)
    return said if isinstance(said, t.InputRequiredResult) else text(f"hello {said.content['name']}")


async def tool_sample(ctx: ServerRequestContext, p: t.CallToolRequestParams) -> Any:
    message = t.SamplingMessage(role="user", content=t.TextContent(type="text", text="Say hi"))
    wanted = t.CreateMessageRequestParams(messages=[message], max_tokens=20)
    if ctx.session.can_send_request:
        said = await ctx.session.create_message([message], max_tokens=20, related_request_id=ctx.request_id)
    else:
        said = await ask(ctx, p, t.CreateMessageRequest(params=wanted), t.CreateMessageResult)
    return said if isinstance(said, t.InputRequiredResult) else text(f"{said.model}: {said.content.text}")


async def tool_roots(ctx: ServerRequestContext, p: t.CallToolRequestParams) -> Any:
    if ctx.session.can_send_request:
        said = await ctx.session.list_roots()
    else:
        said = await ask(ctx, p, t.ListRootsRequest(), t.ListRootsResult)
    return said if isinstance(said, t.InputRequiredResult) else text(str(said.roots[0].uri))


async def tool_touch(_ctx: Any, _p: Any) -> Any:
    await bus.publish(ResourceUpdated(uri="demo://clock"))
    for session in subscribed.get("demo://clock", []):
        await session.send_resource_updated("demo://clock")
    return text("touched")


async def tool_grow(ctx: ServerRequestContext, _p: Any) -> Any:
    extra.append(f"grown{len(extra)}")
    await bus.publish(ToolsListChanged())
    if ctx.session.can_send_request:
        await ctx.session.send_tool_list_changed()
    return text("grown")


async def tool_remember(ctx: ServerRequestContext, _p: Any) -> Any:
    key = id(ctx.session._connection)
    remembered[key] = remembered.get(key, 0) + 1
    return text(str(remembered[key]))


async def tool_headed(ctx: ServerRequestContext, p: t.CallToolRequestParams) -> Any:
    return text(f"region {(p.arguments or {})['region']}")


async def tool_exit(_ctx: Any, _p: Any) -> Any:
    os._exit(3)


async def list_resources(_ctx: Any, _params: Any) -> t.ListResourcesResult:
    return t.ListResourcesResult(resources=[t.Resource(uri="demo://clock", name="clock", mime_type="text/plain")])


async def list_templates(_ctx: Any, _params: Any) -> t.ListResourceTemplatesResult:
    template = t.ResourceTemplate(uri_template="demo://{place}/weather", name="weather")
    return t.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(_ctx: Any, p: t.ReadResourceRequestParams) -> t.ReadResourceResult:
    found = t.TextResourceContents(uri=p.uri, mime_type="text/plain", text=f"at {p.uri}")
    return t.ReadResourceResult(contents=[found])


async def subscribe(ctx: ServerRequestContext, p: t.SubscribeRequestParams) -> t.EmptyResult:
    subscribed.setdefault(str(p.uri), []).append(ctx.session)
    write(f"subscribed {p.uri}")
    return t.EmptyResult()


async def unsubscribe(_ctx: Any, p: t.UnsubscribeRequestParams) -> t.EmptyResult:
    subscribed.pop(str(p.uri), None)
    return t.EmptyResult()


async def list_prompts(_ctx: Any, _params: Any) -> t.ListPromptsResult:
    prompt = t.Prompt(name="greet", arguments=[t.PromptArgument(name="who", required=True)])
    return t.ListPromptsResult(prompts=[prompt])


async def get_prompt(_ctx: Any, p: t.GetPromptRequestParams) -> t.GetPromptResult:
    greeting = t.TextContent(type="text", text=f"Greet {(p.arguments or {}).get('who')}")
    return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=greeting)])


async def complete(_ctx: Any, p: t.CompleteRequestParams) -> t.CompleteResult:
    values = [name for name in ("alice", "bob") if name.startswith(p.argument.value)]
    return t.CompleteResult(completion=t.Completion(values=values, total=len(values), has_more=False))


async def set_level(_ctx: Any, p: t.SetLevelRequestParams) -> t.EmptyResult:
    write(f"level {p.level}")
    return t.EmptyResult()


@asynccontextmanager
async def no_lifespan(_server: Any):
    yield {}


def make_server(name: str, era: str) -> Server[Any]:
    server = Server(
        name,
        version="0.1",
        instructions=f"I am {name}.",
        lifespan=no_lifespan,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_subscriptions_listen=ListenHandler(bus),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=set_level,
    )

    async def refuse_the_other(ctx: Any, call_next: Any) -> Any:
        if era == "modern" and ctx.method == "initialize":
            raise MCPError(t.UNSUPPORTED_PROTOCOL_VERSION, "2026 only", {"supported": ["2026-07-28"], "requested": "?"})
        if era == "legacy" and ctx.method == "server/discover":
            raise MCPError(t.METHOD_NOT_FOUND, "Method not found")
        return await call_next(ctx)

    server.middleware.insert(0, refuse_the_other)
    return server


# ── transports ──────────────────────────────────────────────────────────────────────────────────────────────────


class Stream:
    """A WebSocket as the SDK's two streams."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self.socket = socket

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            data = await self.socket.get_message()
        except trio_websocket.ConnectionClosed:
            raise StopAsyncIteration from None
        try:
            return SessionMessage(t.jsonrpc_message_adapter.validate_json(data, by_name=False))
        except ValueError as exc:
            return exc

    async def send(self, item: SessionMessage) -> None:
        with trio.CancelScope(shield=True):
            try:
                await self.socket.send_message(item.message.model_dump_json(by_alias=True, exclude_unset=True))
            except trio_websocket.ConnectionClosed:
                raise anyio.BrokenResourceError from None

    async def aclose(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        pass


async def serve_websocket(server: Server[Any], drive: Any, port: int) -> None:
    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        stream = Stream(await request.accept(subprotocol="mcp"))
        await drive(server, stream, stream, lifespan_state={})

    async with trio.open_nursery() as nursery:
        start = partial(trio_websocket.serve_websocket, handler, "127.0.0.1", port, None)
        listening = await nursery.start(start)
        print(f"ws://127.0.0.1:{listening.port}/mcp", flush=True)


async def serve_http(server: Server[Any], port: int) -> None:
    manager = StreamableHTTPSessionManager(server)
    config = Config()
    config.bind, config.loglevel, config.graceful_timeout = [f"127.0.0.1:{port}"], "warning", 0.1

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                event = await receive()
                await send({"type": f"{event['type']}.complete"})
                if event["type"] == "lifespan.shutdown":
                    return
        await manager.asgi_app(scope, receive, send)

    async with manager.run(), trio.open_nursery() as nursery:
        (address, *_) = await nursery.start(partial(serve, app, config))
        print(f"{address}/mcp", flush=True)


async def serve_stdio(server: Server[Any], drive: Any) -> None:
    print("serving stdio", file=sys.stderr, flush=True)
    async with stdio_server() as (read, write):
        await drive(server, read, write, lifespan_state={})


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("transport", choices=("stdio", "http", "ws"))
    parser.add_argument("--era", choices=("both", "legacy", "modern"), default="both")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--name", default="demo")
    options = parser.parse_args()
    journal.extend([options.journal] if options.journal else [])
    server = make_server(options.name, options.era)
    drive = serve_loop if options.era == "legacy" else serve_dual_era_loop
    match options.transport:
        case "stdio":
            await serve_stdio(server, drive)
        case "ws":
            await serve_websocket(server, drive, options.port)
        case "http":
            await serve_http(server, options.port)


if __name__ == "__main__":
    trio.run(main)
