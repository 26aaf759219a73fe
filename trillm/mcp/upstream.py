"""One session with an upstream MCP server: over which transport, in which era, and how a request is put to it.

Owned by whoever enters :func:`open_session`, in one task; its requests may come from any. Restarting and sharing it is
:mod:`trillm.mcp.link`'s. Everything is a JSON object as it came.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import trio
from attrs import define, field, frozen

from trillm import __version__
from trillm.errors import UpstreamFailed
from trillm.mcp.child import open_child
from trillm.mcp.errors import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
    RpcError,
)
from trillm.mcp.groups import Groups
from trillm.mcp.jsonrpc import (
    Channel,
    OnNotification,
    OnRequest,
    Peer,
    nothing_to_answer,
    nothing_to_tell,
)
from trillm.mcp.session import META, MODERN, Params
from trillm.registry.mcpentries import McpServer

if TYPE_CHECKING:
    from trillm.mcp.httpclient import HttpChannel

OnProgress: TypeAlias = Callable[[Params], None]
#: What signs the requests to a server, or None: an ``httpx2.Auth``.
Signer: TypeAlias = Callable[[McpServer], Any]

LATEST_LEGACY = "2025-11-25"
LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", LATEST_LEGACY)
CLIENT = {"name": "trillm", "version": __version__}
#: The most of the starting time that is spent on asking whether a server speaks the new era.
PROBE_SHARE = 0.5
#: How servers say that they have forgotten a session; of one that says 404, :mod:`trillm.mcp.httpclient` does.
_FORGOTTEN = re.compile(r"session", re.IGNORECASE)
_FORGOTTEN_CODES = {INVALID_REQUEST, CONNECTION_CLOSED, -32001}
#: What only the new era's requests carry.
_ENVELOPE = tuple(META + key for key in ("protocolVersion", "clientInfo", "clientCapabilities", "logLevel"))


def no_signer(_server: McpServer) -> None:
    """Sign nothing."""


class EraRefused(UpstreamFailed):
    """A server does not speak the era it was to speak."""


@frozen
class Client:
    """What we are to an upstream.

    Args:
        capabilities: what it may ask of us.
        info: who we say we are.
        answer: answers its requests.
        hear: takes its notifications, in order, without waiting.
    """

    capabilities: Params = field(factory=dict)
    info: Params = CLIENT
    answer: OnRequest = nothing_to_answer
    hear: OnNotification = nothing_to_tell


@define(eq=False)
class Upstream:
    """A session with a server that has agreed on a version.

    Args:
        server: which.
        peer: carries it.
        client: what we are to it.
        http: its channel, if that is HTTP.
        version: agreed on.
        described: its result of ``initialize`` or ``server/discover``.
        closed: set when it has ended, for whatever reason.
    """

    server: McpServer
    peer: Peer
    client: Client
    http: "HttpChannel | None" = None
    version: str = field(default="", init=False)
    described: Params = field(factory=dict, init=False)
    closed: trio.Event = field(factory=trio.Event, init=False)

    @property
    def is_modern(self) -> bool:
        """Whether it speaks the stateless era's protocol."""
        return self.version >= MODERN

    @property
    def capabilities(self) -> Params:
        """What it offers."""
        found = self.described.get("capabilities")
        return found if isinstance(found, dict) else {}

    async def request(
        self,
        method: str,
        params: Params,
        *,
        id: str | None = None,  # noqa: A002 - the protocol's word
        on_progress: OnProgress | None = None,
    ) -> Params:
        """Put a request to it and return the result. Cancelled, the request is taken back.

        Raises:
            RpcError: its own error; or ``CONNECTION_CLOSED`` when it has gone.
        """
        return await self.peer.request(method, self._enveloped(params), id=id, on_progress=on_progress)

    def has_forgotten_us(self, error: RpcError) -> bool:
        """Tell whether ``error`` says that the session has expired: the request was not carried out."""
        if self.http is None or self.is_modern:
            return False
        return error.code in _FORGOTTEN_CODES and bool(_FORGOTTEN.search(error.message))

    def _enveloped(self, params: Params) -> Params:
        meta = dict(params.get("_meta") or {})
        meta.pop("progressToken", None)  # tokens of two callers may be the same
        if self.is_modern:
            own = {f"{META}clientInfo": self.client.info, f"{META}clientCapabilities": self.client.capabilities}
            return {**params, "_meta": {**own, **meta, f"{META}protocolVersion": self.version}}
        meta = {key: value for key, value in meta.items() if key not in _ENVELOPE}
        params = {key: value for key, value in params.items() if key != "_meta"}
        return {**params, "_meta": meta} if meta else params

    # ── agreeing on a version ───────────────────────────────────────────────────────────────────────────────────

    async def agree(self, era: str) -> None:
        """Find a version that both sides know.

        Args:
            era: ``legacy``, ``modern``, or ``auto`` to try the new one first.

        Raises:
            UpstreamFailed: there is none, or no server.
        """
        try:
            if era == "legacy" or (not await self._discover() and era == "auto"):
                await self._initialize()
        except RpcError as exc:
            refused = exc.code == UNSUPPORTED_VERSION or (era == "legacy" and exc.code == METHOD_NOT_FOUND)
            raise (EraRefused if refused else UpstreamFailed)(self._why(exc)) from exc
        if not self.version:
            raise EraRefused("does not speak MCP 2026-07-28 (era: modern)")

    async def _discover(self) -> bool:
        """Ask for the new era's versions; anything but a clear answer means the old era (MCP 2026-07-28, "stdio")."""
        meta = {
            f"{META}protocolVersion": MODERN,
            f"{META}clientInfo": self.client.info,
            f"{META}clientCapabilities": self.client.capabilities,
        }
        answer: Params = {}
        with trio.move_on_after(self.server.start_s * PROBE_SHARE):
            try:
                answer = await self.peer.request("server/discover", {"_meta": meta})
            except RpcError as exc:
                if exc.code == CONNECTION_CLOSED or self.problem or _is_modern_only(exc):
                    raise
        versions = answer.get("supportedVersions")
        if isinstance(versions, list) and MODERN in versions:
            self.version, self.described = MODERN, answer
        return bool(self.version)

    async def _initialize(self) -> None:
        asked = {
            "protocolVersion": LATEST_LEGACY,
            "capabilities": self.client.capabilities,
            "clientInfo": self.client.info,
        }
        answer = await self.peer.request("initialize", asked)
        version = answer.get("protocolVersion")
        if version not in LEGACY:
            raise UpstreamFailed(f"wants MCP {version!r}; trillm knows {', '.join(LEGACY)} and {MODERN}")
        if self.http is not None:
            self.http.version = version
        await self.peer.notify("notifications/initialized")
        self.version, self.described = version, answer

    @property
    def problem(self) -> str | None:
        """What its transport has to say of the last failure, if that is a program's."""
        problem: str | None = getattr(self.peer.channel, "problem", None)
        return problem

    def _why(self, error: RpcError) -> str:
        return self.problem or error.message


def _is_modern_only(error: RpcError) -> bool:
    supported = error.data.get("supported") if isinstance(error.data, dict) else None
    if error.code != UNSUPPORTED_VERSION or not isinstance(supported, list):
        return False
    return not set(LEGACY) & {version for version in supported if isinstance(version, str)}


@asynccontextmanager
async def open_session(
    server: McpServer,
    client: Client,
    groups: Groups,
    *,
    era: str,
    schemas: Callable[[str], Params | None],
    signer: Signer = no_signer,
) -> AsyncIterator[Upstream]:
    """Connect to ``server``, or start it, and agree on a version; the session ends with the block.

    Args:
        server: where and how.
        client: what we are to it.
        groups: guards its process.
        era: see :meth:`Upstream.agree`.
        schemas: of its tools, as far as they are known.
        signer: returns what signs HTTP requests, after a login.

    Raises:
        ConfigError: something of its entry is missing in our environment.
        UpstreamFailed: it cannot be reached or started, or no version was agreed on within ``start_s``.
    """
    async with (
        _open_channel(server, groups, schemas, signer) as channel,
        open_upstream(server, client, channel, era) as it,
    ):
        yield it


@asynccontextmanager
async def open_upstream(server: McpServer, client: Client, channel: Channel, era: str) -> AsyncIterator[Upstream]:
    """Agree on a version over an open channel; otherwise as :func:`open_session`."""
    async with trio.open_nursery() as nursery:
        peer = Peer(channel, client.answer, client.hear)
        is_http = server.url is not None and server.url.startswith("http")
        upstream = Upstream(server, peer, client, cast("HttpChannel", channel) if is_http else None)
        if upstream.http is not None:
            upstream.http.deliver = peer.take
        await nursery.start(_run, upstream)
        with trio.move_on_after(server.start_s) as patience:
            await upstream.agree(era)
        if patience.cancelled_caught:
            raise UpstreamFailed(f"did not answer within {server.start_s:g} s")
        yield upstream
        nursery.cancel_scope.cancel()


async def _run(upstream: Upstream, *, task_status: trio.TaskStatus[None]) -> None:
    try:
        await upstream.peer.run(task_status=task_status)
    finally:
        upstream.closed.set()


def _open_channel(
    server: McpServer, groups: Groups, schemas: Callable[[str], Params | None], signer: Signer
) -> AbstractAsyncContextManager[Channel]:
    """Open the transport; each is imported when first used."""
    if server.url is None:
        return open_child(server, groups)
    if server.url.startswith("ws"):
        from trillm.mcp.websocket import open_websocket

        return open_websocket(server.url, list(server.headers().items()))
    from trillm.mcp.httpclient import open_http

    return open_http(server, schemas, signer(server))
