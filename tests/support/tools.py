"""MCP servers in memory, as the tool loop sees them, and a gateway that has them."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import trio
import trio.testing
from attrs import define, field

from support.gateways import RecordingReply, a_call
from support.pools import a_pool, a_server, found, in_use
from trillm.errors import Forbidden, TrillmError
from trillm.gateway.access import Caller
from trillm.gateway.call import Call
from trillm.gateway.gateway import Gateway
from trillm.gateway.journey import Journey, RequestFinished
from trillm.gateway.limits import Limits
from trillm.gateway.tools.source import OnProgress, Progress, Tool, ToolResult, no_such_server
from trillm.metrics import Metrics
from trillm.models import Operation
from trillm.pool.pool import Pool
from trillm.registry.document import Server, ToolLimits
from trillm.sim.server import Simulator, handle_connection
from trillm.sim.settings import SimSettings
from trillm.wire.exchange import Connections
from trillm.wire.net import Origin

#: What a tool does with its arguments: a text to answer with, a result, or an error to raise.
Does = Callable[[Mapping[str, Any]], Awaitable[str | ToolResult]]


@define(eq=False)
class Tools:
    """A :class:`trillm.gateway.tools.source.ToolSource`.

    Args:
        servers: by name, what each tool does.
        urls: of servers, by URL.
        denied: ``server`` or ``server/tool`` that no caller may use.
        down: servers that cannot be asked, and why.
        list_takes_s: seconds until a list is there.
        progress: what every call reports before it begins.
    """

    servers: Mapping[str, Mapping[str, Does]]
    urls: Mapping[str, str] = field(factory=dict)
    denied: Collection[str] = field(factory=set)
    down: Mapping[str, TrillmError] = field(factory=dict)
    list_takes_s: float = 0
    progress: Sequence[Progress] = ()
    called: list[tuple[str, str, Mapping[str, Any], str | None]] = field(factory=list, init=False)
    running: int = field(default=0, init=False)
    most_running: int = field(default=0, init=False)
    cancelled: int = field(default=0, init=False)

    def server_at(self, url: str) -> str | None:
        return self.urls.get(url)

    async def list_tools(self, server: str, *, caller: Caller, only: Collection[str] = ()) -> Sequence[Tool]:
        await trio.sleep(self.list_takes_s)
        if server not in self.servers:
            raise no_such_server(server, self.servers)
        if server in self.down:
            raise self.down[server]
        for name in (server, *(f"{server}/{tool}" for tool in only)):
            if name in self.denied:
                raise Forbidden(f"The key {caller.key!r} may not use {name!r}.")
        return [Tool(name, f"What {name} does.") for name in self.servers[server]]

    async def call_tool(
        self,
        server: str,
        name: str,
        arguments: Mapping[str, Any],
        *,
        caller: Caller,
        on_progress: OnProgress | None = None,
    ) -> ToolResult:
        self.called.append((server, name, arguments, caller.key))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for progress in self.progress:
                if on_progress is not None:
                    on_progress(progress)
                await trio.sleep(0.01)
            result = await self.servers[server][name](arguments)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return result if isinstance(result, ToolResult) else ToolResult(result)


@define(eq=False)
class ToolRig:
    """A gateway before one simulator, in memory, and the records of its calls."""

    gateway: Gateway
    pool: Pool
    connections: Connections
    simulator: Simulator
    tools: Tools
    journeys: list[Journey]

    async def ask(self, call: Call, reply: RecordingReply | None = None) -> RecordingReply:
        reply = reply or RecordingReply()
        await self.gateway.handle(call, reply)
        return reply

    def left(self) -> dict[str, Any]:
        """What is still in use, by what it is; nothing should be."""
        counts = {
            "slots": in_use(self.pool),
            "answers": self.simulator.stats.in_flight,
            "connections": self.simulator.stats.connections - self.connections.idle_count(),
            "tools": self.tools.running,
            "calls": self.gateway.running,
        }
        return {what: count for what, count in counts.items() if count}


def a_tool_rig(
    nursery: trio.Nursery,
    tools: Tools,
    *servers: Server,
    sim: SimSettings = SimSettings(),  # noqa: B008 - a frozen value
    limits: Limits = Limits(),  # noqa: B008
    tool_limits: ToolLimits = ToolLimits(),  # noqa: B008
) -> ToolRig:
    """A gateway before servers that are all the same simulator."""
    pool, _ = a_pool(*(servers or (a_server("one"),)))
    for member in pool.members.values():
        pool.probed(member, found("sim-chat"))
    simulator, journeys = Simulator(sim), []

    async def connect(origin: Origin) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await trio.lowlevel.checkpoint()
        nursery.start_soon(handle_connection, theirs, simulator)
        return ours

    def publish(event: object) -> None:
        if isinstance(event, RequestFinished):
            journeys.append(event.journey)

    connections = Connections(connect)
    gateway = Gateway(
        pool, connections, lambda: limits, publish, Metrics(), tools=tools, tool_limits=lambda: tool_limits
    )
    return ToolRig(gateway, pool, connections, simulator, tools, journeys)


def a_tool_call(
    *directed: Mapping[str, Any], stream: bool, headers: Sequence[tuple[bytes, bytes]] = (), **more: Any
) -> Call:
    """A chat with the tools of ``weather``, whose turns are directed."""
    members = {"tools": [mcp("weather")], "x_sim": turns(*directed, tokens=80), "stream": stream} | more
    return a_call(Operation.CHAT, *headers, model="sim-chat", **members)


def says(text: str, *, after_s: float = 0, is_error: bool = False) -> Does:
    """A tool that answers this."""

    async def do(arguments: Mapping[str, Any]) -> ToolResult:
        await trio.sleep(after_s)
        return ToolResult(text, is_error=is_error)

    return do


def raises(error: Exception) -> Does:
    """A tool that cannot be called."""

    async def do(arguments: Mapping[str, Any]) -> ToolResult:
        await trio.lowlevel.checkpoint()
        raise error

    return do


async def echoes(arguments: Mapping[str, Any]) -> str:
    """A tool that answers its arguments."""
    await trio.lowlevel.checkpoint()
    return repr(dict(arguments))


def mcp(label: str, *allowed: str, **members: Any) -> dict[str, Any]:
    """A server as a request asks for it."""
    tool = {"type": "mcp", "server_label": label, "require_approval": "never"}
    return tool | ({"allowed_tools": list(allowed)} if allowed else {}) | members


def calls(*names: str, **members: Any) -> dict[str, Any]:
    """A turn of the simulator that calls these tools, without arguments."""
    return {"calls": [{"name": name} for name in names], **members}


def turns(*directed: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """The simulator's directions for several turns."""
    return {"turns": list(directed), **members}
