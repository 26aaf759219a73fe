"""Which servers are served: those of the registry; while it names none, what was discovered; else the builtin one."""

import logging
from collections.abc import Collection, Mapping, Sequence

import trio
from attrs import define, field

from trillm.backends.detect import Discovered, discover
from trillm.pool.member import Source
from trillm.pool.pool import Pool
from trillm.registry.document import Server
from trillm.registry.registry import RegistryLoaded, Snapshot
from trillm.wire.control import Control
from trillm.wire.net import Origin

log = logging.getLogger(__name__)

#: How often to look while the registry names no server; as often as servers are probed. Where nothing listens, a look
#: is one connection refused for each port.
LOOK_AGAIN_S = 5.0
#: For how long a discovered server that is gone is still served, as one that is down: who restarts it is not to find
#: the builtin one in its place.
FORGET_S = 60.0


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
    _discovered: Mapping[int, Discovered] = field(factory=dict, init=False)  # by port
    _seen_at: dict[int, float] = field(factory=dict, init=False)

    def loaded(self, event: RegistryLoaded) -> None:
        """Follow the registry; a callback of the hub."""
        self._snapshot = event.snapshot
        self._apply()

    def builtin_at(self, url: str) -> None:
        """Take in where the builtin backend is now."""
        self.builtin_url = url
        self._apply()

    def discovered(self, found: Sequence[Discovered]) -> None:
        """Take in what a look at this machine found, beside the servers that are known and up."""
        now = self.pool.now()
        seen = {Origin.of(one.url).port: one for one in found}
        self._seen_at |= dict.fromkeys([*seen, *self.up()], now)
        before, served = self._servers(), {**self._discovered, **seen}
        self._discovered = {port: one for port, one in served.items() if now - self._seen_at[port] < FORGET_S}
        if self._servers() != before:
            names = ",".join(f"{one.name}={one.url}" for one in self._discovered.values())
            log.info("servers discovered servers=%s", names or "none")
            self._apply()

    def up(self) -> Collection[int]:
        """Return the ports of the discovered servers that are up, as what they were, as far as probes tell."""
        return [port for port, one in self._discovered.items() if self._is_up(one)]

    def _is_up(self, one: Discovered) -> bool:
        member = self.pool.members.get(one.name)
        return member is not None and member.reachable is True and member.kind == one.found.kind

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
                # Their kind is left to the probes: the next server on that port may be of another one.
                return tuple(Server(name=one.name, url=one.url) for one in self._discovered.values())
        return (Server(name="builtin", url=self.builtin_url, kind="builtin"),) if self.builtin_url else ()


async def serve_discovery(
    membership: Membership,
    http: Control,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Look for local servers at the start, and again and again while the registry names none."""
    while True:
        if membership.source is not Source.REGISTRY:
            membership.discovered(await _look(http, membership.up()))
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(LOOK_AGAIN_S)


async def _look(http: Control, known: Collection[int]) -> Sequence[Discovered]:
    try:
        return await discover(http, but=known)
    except Exception:
        # Whatever it is that listens there, trillm must start without it.
        log.exception("discovery broken")
        return ()
