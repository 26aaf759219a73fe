"""The registry's module task: sees that a file changed, reloads, publishes what came of it. Owns no state.

Started by the application, after whatever listens to the events. Looks every quarter of a second instead of
asking the kernel: ``docs/decisions/0001-watching-by-polling.md`` has the reasons.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import trio

from trillm.registry.registry import Event, Registry, RegistryLoaded, RegistryRejected

LOOK_EVERY_S = 0.25
#: Time for an editor to finish what it does in several steps: empty and write, or move away and write anew.
SETTLE_S = 0.1

log = logging.getLogger(__name__)


async def serve_registry(
    registry: Registry,
    publish: Callable[[object], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep ``registry`` up to date with its files; never returns.

    The files are read once before ``task_status.started()``, so the first snapshot stands by then. A change
    is published within half a second. Cancellation takes effect at once.

    Args:
        registry: reloaded in place.
        publish: called with each event; must not wait.
        task_status: started after the first read.
    """
    paths = (registry.store.path, registry.store.keys.path)
    seen = _fingerprints(paths)
    _announce(registry.reload(), publish)
    task_status.started()
    while True:
        await trio.sleep(LOOK_EVERY_S)
        if _fingerprints(paths) != seen:
            await trio.sleep(SETTLE_S)
            seen = _fingerprints(paths)
            _announce(registry.reload(), publish)


def _announce(events: Iterable[Event], publish: Callable[[object], None]) -> None:
    for event in events:
        match event:
            case RegistryRejected(error):
                log.error("registry rejected error=%r", error)
            case RegistryLoaded(snapshot):
                servers = ",".join(snapshot.document.servers) or "none"
                log.info("registry loaded revision=%d servers=%s", snapshot.revision, servers)
        publish(event)


def _fingerprints(paths: Iterable[Path]) -> list[tuple[int, ...]]:
    return [_fingerprint(path) for path in paths]


def _fingerprint(path: Path) -> tuple[int, ...]:
    # ctime as well: it tells a change of permissions, and a copy that kept the old mtime.
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
