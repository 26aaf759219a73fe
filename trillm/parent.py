"""``trillm serve --workers``: a parent that serves nobody, and the workers that do.

It opens the sockets first, so that what is wrong with an address is found before anybody starts, and keeps the place.
It has the builtin backend, the run file, the banner and the signals.
"""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import trio
from attrs import define, field, frozen

from trillm import banner, logs
from trillm.door.listeners import Listener, Name, open_listeners, reserve
from trillm.errors import ConfigError
from trillm.runfile import announced
from trillm.settings import ServeSettings, server_url
from trillm.sim.server import serve_builtin
from trillm.stop import BACKSTOP_S, hard_exit_after, until, watch_signals
from trillm.supervise import supervise
from trillm.workers.messages import Start
from trillm.workers.parent import Parent, Plan

log = logging.getLogger(__name__)

#: Whether the kernel shares connections out among sockets of one port. Others have SO_REUSEPORT but do not balance.
BALANCES = sys.platform == "linux"


async def serve_workers(settings: ServeSettings) -> int:
    """Serve with ``settings.workers`` processes until a signal; return the exit status.

    Raises:
        ConfigError: the address cannot be bound, a certificate is not good, or this system cannot do it.
        WorkerFailed: workers end as soon as they start.
    """
    if sys.platform == "win32":
        raise ConfigError("--workers", "on Windows there is one; run several trillms on several ports behind a proxy")
    logs.configure(settings.log_format, settings.log_level)
    settings.tls()  # what is wrong with it should be said once
    first, second = trio.Event(), trio.Event()
    async with trio.open_nursery() as root:
        await root.start(watch_signals, first, second)
        async with open_listeners(settings.address) as opened:
            url = server_url(opened[0].socket, settings)
            with _place(opened) as place:
                await _serve(_Site(settings, place), url, root, first, second)
        root.cancel_scope.cancel()
    return 0


async def _serve(site: "_Site", url: str, root: trio.Nursery, first: trio.Event, second: trio.Event) -> None:
    """Start the workers, and stop them at the ``first`` signal, or at once at the ``second``."""
    await root.start(supervise, "builtin", partial(serve_builtin, site.builtin_at))
    await until(first, partial(root.start, site.parent.run))
    if first.is_set():
        return  # they were starting, and have been ended
    with announced(site.settings.config, url, site.token):
        banner.show(site.parent.banner)
        await first.wait()
        with hard_exit_after(site.settings.drain_s + 2 * BACKSTOP_S):
            await until(second, site.parent.stop)
            await site.parent.stop(at_once=True)


@frozen
class _Place:
    """Where the workers listen.

    Args:
        names: addresses at which each has a socket of its own.
        common: sockets from which all accept.
    """

    names: Sequence[Name]
    common: Sequence[socket.socket]


@contextmanager
def _place(opened: Sequence[Listener]) -> Iterator[_Place]:
    """Decide where the workers listen, and keep it for them.

    Where the kernel balances, each has sockets of its own: a common one wakes them all, and the first takes most. What
    waits for one that dies is lost, but what comes then goes to the others. A Unix socket is always common.
    """
    balanced = [o.socket for o in opened if BALANCES and o.socket.family in (socket.AF_INET, socket.AF_INET6)]
    names = [(sock.family, sock.getsockname()) for sock in balanced]
    for sock in balanced:
        sock.close()  # there can be none that shares beside one that does not
    with ExitStack() as reserved:
        for sock in reserve(names):
            reserved.enter_context(sock)
        yield _Place(names, [o.socket for o in opened if o.socket not in balanced])


@define(eq=False)
class _Site:
    """What workers are told, whenever one starts.

    Args:
        settings: of all.
        place: where they listen.
    """

    settings: ServeSettings
    place: _Place
    token: str = field(factory=partial(secrets.token_urlsafe, 32), repr=False)
    builtin_url: str = field(default="", init=False)
    parent: Parent = field(init=False)

    def __attrs_post_init__(self) -> None:
        plan = Plan(
            count=self.settings.workers,
            # What this process imports, and nothing from the folder it happens to be in.
            command=[sys.executable, "-P", "-m", "trillm.worker"],
            environment={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            descriptors=[sock.fileno() for sock in self.place.common],
            start=self.start,
            stop_s=self.settings.drain_s + BACKSTOP_S + 1,
        )
        self.parent = Parent(plan)

    def builtin_at(self, url: str) -> None:
        """Take in where the builtin backend is now."""
        self.builtin_url = url
        self.parent.moved(url)

    def start(self, number: int) -> Start:
        """Return a worker's first message."""
        names = [(family, list(name)) for family, name in self.place.names]
        common = [sock.fileno() for sock in self.place.common]
        return Start(number, self.settings.encoded(), self.token, self.builtin_url, names, common)
