"""``trillm serve --workers``: a parent that serves nobody, and the workers that do.

It opens the sockets, so that what is wrong with an address is found before anybody starts, and keeps them open, so that
connections that came while a worker was dead wait for the next one. It has the builtin backend, the run file, the
banner and the signals.
"""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import partial

import trio
from attrs import define, field

from trillm import banner, logs
from trillm.door.listeners import Listener, open_listeners, open_parallel
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
            with ExitStack() as sockets:
                site = _Site(settings, _shared_out(opened, settings.workers, sockets))
                await root.start(supervise, "builtin", partial(serve_builtin, site.builtin_at))
                await until(first, partial(root.start, site.parent.run))
                with announced(settings.config, url, site.token) if site.parent.banner else nullcontext():
                    banner.show(site.parent.banner)
                    await first.wait()
                    # Or the kernel would go on taking connections for workers that take none.
                    sockets.close()
                    with hard_exit_after(settings.drain_s + 2 * BACKSTOP_S):
                        await until(second, site.parent.stop)
                        await site.parent.stop(at_once=True)
        root.cancel_scope.cancel()
    return 0


@define(eq=False)
class _Site:
    """What workers are told, whenever one starts.

    Args:
        settings: of all.
        listeners: for each worker.
    """

    settings: ServeSettings
    listeners: Sequence[Sequence[Listener]]
    token: str = field(factory=partial(secrets.token_urlsafe, 32), repr=False)
    builtin_url: str = field(default="", init=False)
    parent: Parent = field(init=False)

    def __attrs_post_init__(self) -> None:
        descriptors = {listener.socket.fileno() for theirs in self.listeners for listener in theirs}
        self.parent = Parent(
            Plan(
                count=self.settings.workers,
                # What this process imports, and nothing from the folder it happens to be in.
                command=[sys.executable, "-P", "-m", "trillm.worker"],
                environment={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                descriptors=sorted(descriptors),
                start=self.start,
                stop_s=self.settings.drain_s + BACKSTOP_S + 1,
            )
        )

    def builtin_at(self, url: str) -> None:
        """Take in where the builtin backend is now."""
        self.builtin_url = url
        self.parent.moved(url)

    def start(self, number: int) -> Start:
        """Return a worker's first message."""
        listeners = [(listener.socket.fileno(), listener.shared) for listener in self.listeners[number - 1]]
        return Start(number, self.settings.encoded(), self.token, self.builtin_url, listeners)


def _shared_out(opened: Sequence[Listener], workers: int, sockets: ExitStack) -> list[list[Listener]]:
    """Return the listeners of each worker; they are closed with ``sockets``.

    Where the kernel balances, each worker has sockets of its own: all that wake for a common one cost time, and the
    first of them would take most. A Unix socket is always common.
    """
    balanced = [listener for listener in opened if BALANCES and listener.socket.family != socket.AF_UNIX]
    common = [Listener(sockets.enter_context(o.socket), shared=True) for o in opened if o not in balanced]
    addresses = [(listener.socket.family, listener.socket.getsockname()) for listener in balanced]
    for listener in balanced:
        listener.socket.close()  # the kernel lets none beside one that does not share
    own = [[sockets.enter_context(sock) for sock in open_parallel(addresses)] for _ in range(workers)]
    return [[*map(Listener, theirs), *common] for theirs in own]
