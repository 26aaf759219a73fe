"""Puts the modules together under one root nursery, starts them in order and stops them in the opposite one.

Two rings: services, which are needed until the end, and inside them the faces, which stop first. Only the command line
and :mod:`trillm.worker` import this.
"""

import gc
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field, frozen

from trillm import banner, logs
from trillm.api import sums
from trillm.api.app import Site, build_app
from trillm.api.mount import Asgi, Mount
from trillm.api.server import AppServer, open_app_server
from trillm.door.door import Door, DoorSettings
from trillm.door.lane import Lane, LaneSettings
from trillm.door.listeners import Address, Listener, open_listeners
from trillm.gateway.access import Access, own_hosts
from trillm.gateway.cors import Cors
from trillm.gateway.gateway import Gateway
from trillm.gateway.images import Images
from trillm.gateway.limits import Limits, limits_of
from trillm.gateway.proxies import Proxies
from trillm.gateway.tokens import Issuer
from trillm.gateway.tools.source import ToolSource
from trillm.hub import Hub, WhenFull
from trillm.mcp.house import House, ToolSearch
from trillm.mcp.onuse import OnUse, open_on_use
from trillm.metrics import Metrics
from trillm.observe import observe
from trillm.pool.membership import Membership, serve_discovery
from trillm.pool.pool import Pool
from trillm.pool.probe import serve_probes
from trillm.registry.document import Budgets, ToolLimits
from trillm.registry.registry import Registry, RegistryLoaded
from trillm.registry.store import Store
from trillm.registry.watch import serve_registry
from trillm.runfile import announced
from trillm.settings import ServeSettings, server_url
from trillm.sim.server import serve_builtin
from trillm.stop import BACKSTOP_S, hard_exit_after, until, watch_signals
from trillm.supervise import Module, supervise
from trillm.wire.control import open_control
from trillm.wire.exchange import Connections
from trillm.wire.fetch import Fetcher
from trillm.wire.net import connect
from trillm.wire.outbox import open_outbox
from trillm.wire.poller import Poller, open_poller
from trillm.wire.pump import Pump
from trillm.workers import totals
from trillm.workers.link import Link

if TYPE_CHECKING:
    from trillm.mcp.upstreams import Upstreams

log = logging.getLogger(__name__)

#: Of the drain time, what is kept for telling the streams that are still open that this is the end.
FAREWELL_S = 1.0

Listen = Callable[[], Sequence[Listener]]


@frozen
class Inherited:
    """What one of several workers has from its parent.

    Args:
        listen: opens the sockets to accept from.
        operator_token: one for all.
        builtin_url: where the builtin backend is, one for all.
        link: to the parent, and through it to the others.
        number: which of them it is, from 1.
    """

    listen: Listen
    operator_token: str = field(repr=False)
    builtin_url: str
    link: Link
    number: int


@define(eq=False)
class Services:
    """The outer ring's state, before anything runs."""

    settings: ServeSettings
    inherited: Inherited | None = None
    hub: Hub = field(factory=Hub)
    metrics: Metrics = field(factory=Metrics)
    connections: Connections = field(factory=Connections)
    operator_token: str = field(factory=partial(secrets.token_urlsafe, 32), repr=False)
    registry: Registry = field(init=False)
    pool: Pool = field(init=False)
    membership: Membership = field(init=False)
    gateway: Gateway = field(init=False)
    issuer: Issuer | None = field(default=None, init=False)
    #: Asked for with every request, made anew with every document.
    _limits: tuple[Budgets | None, Limits] = field(default=(None, Limits()), init=False)

    def __attrs_post_init__(self) -> None:
        self.registry = Registry(Store(self.settings.config))
        self.pool = Pool(self.hub.publish)
        if self.settings.oauth is not None:
            self.issuer = Issuer(self.settings.oauth)
        self.membership = Membership(self.pool)
        if self.inherited is not None:
            self._join(self.inherited)
        self.gateway = Gateway(
            self.pool, self.connections, self.limits, self.hub.publish, self.metrics, tool_limits=self.tool_limits
        )
        # Coalesced: only the newest snapshot is of interest.
        self.hub.subscribe(self.membership.loaded, RegistryLoaded, when_full=WhenFull.COALESCE, size=1)
        observe(self.hub, self.metrics, self.gateway)

    def _join(self, inherited: Inherited) -> None:
        """Be one of several."""
        self.operator_token = inherited.operator_token
        self.pool.slots.shares = link = inherited.link
        link.serve_waiters = self.pool.slots.serve_waiters
        link.moved = self.membership.builtin_at
        link.parts[totals.METRICS] = partial(totals.part, self.metrics.registry)
        link.parts[sums.STATUS] = lambda: sums.part(self.gateway, self.registry)
        self.metrics.gauge("trillm_workers", "Processes that serve.", lambda: 1)

    def limits(self) -> Limits:
        """Return the budgets in force: the command line's, then the registry's, then the defaults."""
        registered = self.registry.snapshot.document.budgets
        if self._limits[0] is not registered:
            self._limits = (registered, limits_of(self.settings.budgets, registered))
        return self._limits[1]

    def tool_limits(self) -> ToolLimits:
        """Return the limits in force of chats that run tools."""
        return self.registry.snapshot.document.tool_limits

    @property
    def access(self) -> Access:
        """Return the rules of who may call."""
        return Access(
            keyring=lambda: self.registry.snapshot.keyring,
            operator_token=self.operator_token,
            needs_keys=self.settings.auth,
            hosts=own_hosts(self.settings.host, self.settings.allowed_hosts),
            cors=Cors(frozenset(self.settings.cors_origins)),
            issuer=self.issuer,
            proxies=Proxies.parse(self.settings.forwarded_allow_ips),
        )

    def site(self) -> Site:
        """Return what the HTTP routes need."""
        gather = None if self.inherited is None else self.inherited.link.gather
        return Site(self.gateway, self.registry, self.access, gather, max_body_bytes=self.settings.max_body_bytes)

    def mcp(self) -> AbstractAsyncContextManager[OnUse]:
        """Return the MCP face, which begins when it is first needed."""
        search = ToolSearch(self.settings.mcp_search_above, self.settings.mcp_search_model)
        worker = 0 if self.inherited is None else self.inherited.number
        house = House(self.gateway, self.registry, search, worker)
        return open_on_use(lambda module: module.open_face(house, self.hub, self.access))

    def tools(self, mcp: OnUse) -> ToolSource:
        """Return the MCP servers as chats that run tools need them; at work from the first such chat on."""
        from trillm.mcp.toolsource import McpTools

        async def upstreams() -> "Upstreams":
            return (await mcp.face()).upstreams

        return McpTools(self.registry, upstreams)

    def lane(self, app: AppServer, poller: Poller | None, mcp: OnUse | None = None) -> Lane:
        """Return the fast lane before ``app``."""
        settings = LaneSettings(body_bytes=self.settings.max_body_bytes)
        enabled = self.settings.lane
        return Lane(self.gateway, self.access, app.serve_connection, poller, settings, enabled, mcp)


@frozen
class Server:
    """A trillm that answers.

    Args:
        url: where.
        services: its inside.
        door: its listener.
        lane: its hot routes.
        app: its HTTP application.
        mcp: its MCP face.
        mcp_url: where that has a port of its own, or None.
    """

    url: str
    services: Services
    door: Door
    lane: Lane
    app: AppServer
    mcp: OnUse
    mcp_url: str | None = None


async def serve(settings: ServeSettings) -> int:
    """Serve in this process until a signal; return the exit status. What ``trillm serve`` runs."""
    logs.configure(settings.log_format, settings.log_level)
    first, second = trio.Event(), trio.Event()
    async with trio.open_nursery() as root:
        await root.start(watch_signals, first, second)
        async with open_server(settings) as server:
            settle_memory()
            with announced(settings.config, server.url, server.services.operator_token):
                banner.show(describe(server))
                await until_stopped(server, first, second)
        root.cancel_scope.cancel()
    return 0


def settle_memory() -> None:
    """Let the garbage collector forget what is there for good: modules, classes, code.

    Looking through it again and again took a tenth of a request's time, and 50 ms at once in the middle of streams.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def describe(server: Server) -> str:
    """Return the banner of a server that answers."""
    services = server.services
    return banner.render(server.url, services.pool, services.registry, services.settings, server.mcp_url)


async def until_stopped(server: Server, first: trio.Event, second: trio.Event) -> None:
    """Wait for ``first``, then drain, but no longer than until ``second``."""
    await first.wait()
    drain_s = server.services.settings.drain_s
    with hard_exit_after(drain_s + BACKSTOP_S):
        await until(second, partial(drain, server, drain_s))


@asynccontextmanager
async def open_server(settings: ServeSettings, inherited: Inherited | None = None) -> AsyncIterator[Server]:
    """Run a whole trillm for the time of the block: two of them may run in one process.

    Args:
        settings: see there.
        inherited: what it need not make itself, if it is one of several.

    Raises:
        ConfigError: the address cannot be bound.
    """
    tls = settings.tls()
    services = Services(settings, inherited)
    async with _address(services) as listen, trio.open_nursery() as outer:
        await _start_services(services, outer)
        with services.connections:
            async with _open_faces(services, listen(), tls) as server:
                yield server
        outer.cancel_scope.cancel()


@asynccontextmanager
async def open_alone(settings: ServeSettings) -> AsyncIterator[OnUse]:
    """Run all but what listens, for the time of the block: for a client that has this process to itself."""
    services = Services(settings)
    async with trio.open_nursery() as outer:
        await _start_services(services, outer)
        with services.connections:
            async with services.mcp() as mcp:
                yield mcp
        outer.cancel_scope.cancel()


@asynccontextmanager
async def _address(services: Services) -> AsyncIterator[Listen]:
    """Yield what opens the door's sockets.

    One process alone has them from the start, so that what is wrong with the address is found first. One of several
    listens when it is ready, because from then on the kernel gives it connections.
    """
    if services.inherited is not None:
        yield services.inherited.listen
        return
    async with open_listeners(services.settings.address) as listeners:
        yield lambda: listeners


@asynccontextmanager
async def _open_faces(
    services: Services, listeners: Sequence[Listener], tls: ssl.SSLContext | None
) -> AsyncIterator[Server]:
    """Run the inner ring: whatever clients are served by."""
    settings = services.settings
    async with (
        open_poller() as poller,
        open_outbox() as outbox,
        services.mcp() as mcp,
        open_app_server(_with_mcp(services, mcp)) as app,
        trio.open_nursery() as faces,
    ):
        services.gateway.pump = Pump(poller) if poller else None
        services.connections.connect = partial(connect, outbox=outbox)
        services.gateway.tools = services.tools(mcp)
        lane = services.lane(app, poller, mcp if settings.mcp else None)
        door = Door(listeners, lane.serve, DoorSettings(max_connections=settings.max_connections), tls, outbox)
        services.metrics.gauge("trillm_connections", "Open client connections.", lambda: door.connections)
        await faces.start(lane.serve_deadlines)
        await faces.start(door.run)
        async with _open_mcp_port(settings, mcp, tls) as mcp_url:
            yield Server(server_url(listeners[0].socket, settings), services, door, lane, app, mcp=mcp, mcp_url=mcp_url)
        faces.cancel_scope.cancel()


@asynccontextmanager
async def _open_mcp_port(settings: ServeSettings, mcp: OnUse, tls: ssl.SSLContext | None) -> AsyncIterator[str | None]:
    """Serve MCP over WebSocket on the port that was asked for, if one was; yield its URL."""
    if settings.mcp_port is None:
        yield None
        return
    async with open_listeners(Address(settings.host, settings.mcp_port)) as listeners, trio.open_nursery() as nursery:
        door = Door(listeners, mcp.serve_websocket, DoorSettings(max_connections=settings.max_connections), tls)
        await nursery.start(door.run)
        yield server_url(listeners[0].socket, settings).replace("http", "ws", 1) + "/mcp"
        nursery.cancel_scope.cancel()


def _with_mcp(services: Services, mcp: OnUse) -> Asgi:
    """Return the HTTP application, MCP included where it does not go through the lane."""
    app, settings = build_app(services.site()), services.settings
    return Mount(mcp, settings.max_body_bytes).before(app) if settings.mcp else app


async def _start_services(services: Services, nursery: trio.Nursery) -> None:
    """Start the outer ring, each module when those it needs are ready."""
    start = partial(_start_module, services, nursery)
    await start("hub", services.hub.serve)
    if services.inherited is None:
        await start("builtin", partial(serve_builtin, services.membership.builtin_at))
    else:
        services.membership.builtin_at(services.inherited.builtin_url)
    await start("registry", partial(serve_registry, services.registry, services.hub.publish))
    # The hub delivers the first snapshot in its own time; what follows needs it now.
    services.membership.loaded(RegistryLoaded(services.registry.snapshot))
    http = await nursery.start(_serve_control)
    if services.settings.inline_images:
        services.gateway.images = Images(Fetcher(http))
    if services.settings.discover:
        await start("discovery", partial(serve_discovery, services.membership, http))
    if services.issuer is not None:
        await start("issuer", partial(services.issuer.serve, http))
    await start("probes", partial(serve_probes, services.pool, http))


async def _start_module(services: Services, nursery: trio.Nursery, name: str, serve_module: Module) -> Any:
    def failed(module: str, _error: Exception) -> None:
        services.metrics.module_failed(module)

    return await nursery.start(partial(supervise, name, serve_module, on_failure=failed))


async def _serve_control(*, task_status: trio.TaskStatus[object]) -> None:
    async with open_control() as http:
        task_status.started(http)
        await trio.sleep_forever()


async def drain(server: Server, drain_s: float) -> None:
    """Stop taking work, let what runs finish for ``drain_s`` seconds, and tell the rest that this is the end."""
    gateway = server.services.gateway
    gateway.stopping = True
    server.door.close()
    server.lane.close_idle()
    await server.app.close_idle()
    with trio.move_on_after(max(0.0, drain_s - FAREWELL_S)):
        await server.mcp.finish()
        await server.door.empty.wait()
        return
    log.warning("drain time over running=%d", gateway.running)
    gateway.cut_all("trillm is stopping.")
    with trio.move_on_after(FAREWELL_S):
        await server.mcp.finish()
        await server.door.empty.wait()
    server.mcp.abort()
