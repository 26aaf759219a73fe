"""Which servers are served: those of the registry; while it names none, what was discovered; else the builtin one."""

import logging
from collections.abc import Sequence

import trio
from attrs import define, field

from trillm.backends.detect import Discovered, discover
from trillm.pool.member import Source
from trillm.pool.pool import Pool
from trillm.registry.document import Server
from trillm.registry.registry import RegistryLoaded, Snapshot
from trillm.wire.control import Control

log = logging.getLogger(__name__)

#: How often to look again while only the builtin backend is served.
LOOK_AGAIN_S = 15.0


@define(eq=False)
class Membership:
    """Decides, and tells the pool.

    Args:
        pool: told of every change.
        builtin_url: where the builtin backend is, or None to serve nothing rather than it.
    """

    pool: Pool
    builtin_url: str | None = None
    _snapshot: Snapshot = field(factory=Snapshot, init=False)
    _discovered: tuple[Server, ...] = field(default=(), init=False)

    def loaded(self, event: RegistryLoaded) -> None:
        """Follow the registry; a callback of the hub."""
        self._snapshot = event.snapshot
        self._apply()

    def builtin_at(self, url: str) -> None:
        """Take in where the builtin backend is now."""
        self.builtin_url = url
        self._apply()

    def discovered(self, found: Sequence[Discovered]) -> None:
        """Take in what runs on this machine."""
        self._discovered = tuple(Server(name=d.name, url=d.url, kind=d.found.kind) for d in found)
        self._apply()

    @property
    def source(self) -> Source:
        """Where the servers come from now."""
        if self._snapshot.document.servers:
            return Source.REGISTRY
        return Source.DISCOVERED if self._discovered else Source.BUILTIN

    def _apply(self) -> None:
        document = self._snapshot.document
        self.pool.configure(((server, self.source) for server in self._servers()), document.routes)

    def _servers(self) -> Sequence[Server]:
        match self.source:
            case Source.REGISTRY:
                return tuple(self._snapshot.document.servers.values())
            case Source.DISCOVERED:
                return self._discovered
        return (Server(name="builtin", url=self.builtin_url, kind="builtin"),) if self.builtin_url else ()


async def serve_discovery(
    membership: Membership,
    http: Control,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Look for local servers at the start, and again while there is nothing but the builtin backend."""
    while True:
        if membership.source is Source.BUILTIN:
            found = await _look(http)
            if found:
                log.info("servers discovered servers=%s", ",".join(f"{d.name}={d.url}" for d in found))
                membership.discovered(found)
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(LOOK_AGAIN_S)


async def _look(http: Control) -> Sequence[Discovered]:
    try:
        return await discover(http)
    except Exception:
        # Whatever it is that listens there, trillm must start without it.
        log.exception("discovery broken")
        return ()
