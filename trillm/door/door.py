"""The listener on the one port: accepts connections, caps them, and hands each to who serves it.

An exception in one connection ends only that one. Closing the listeners does not touch the connections; they end with
the nursery that :func:`serve_door` was started in.
"""

import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

import trio
from attrs import define, field, frozen
from trio.lowlevel import wait_readable

from trillm.door.listeners import Listener
from trillm.door.tls import secured
from trillm.wire.outbox import Outbox
from trillm.wire.stream import RawStream

log = logging.getLogger(__name__)

ACCEPTS_PER_WAKE = 64
#: Out of descriptors or memory: how long to wait for some to be freed.
NO_ROOM_S = 0.1
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


@frozen
class DoorSettings:
    """What a connection may cost.

    Args:
        max_connections: open at once; one more is closed unanswered.
        write_stall_s: seconds a client may take no byte of what it is sent.
        handshake_s: seconds for a TLS handshake.
    """

    max_connections: int = 10_000
    write_stall_s: float = 30.0
    handshake_s: float = 10.0


@define(eq=False)
class Door:
    """The state of the listener.

    Args:
        listeners: where to accept.
        serve: serves one connection to its end.
        settings: see :class:`DoorSettings`.
        tls: what to show clients, None for plain HTTP.
        outbox: for what clients are sent soon.
    """

    listeners: Sequence[Listener]
    serve: Serve
    settings: DoorSettings = field(factory=DoorSettings)
    tls: ssl.SSLContext | None = None
    outbox: Outbox | None = None
    connections: int = field(default=0, init=False)
    empty: trio.Event = field(factory=trio.Event, init=False)
    _accepting: trio.CancelScope = field(factory=trio.CancelScope, init=False)

    def close(self) -> None:
        """Accept no more connections."""
        self._accepting.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Accept until :meth:`close`, serve what was accepted to its end, then set :attr:`empty`."""
        async with trio.open_nursery() as connections:
            with ExitStack() as listening, self._accepting:
                async with trio.open_nursery() as accepting:
                    for listener in self.listeners:
                        listening.enter_context(listener.socket)
                        accepting.start_soon(self._accept, listener, connections)
                    task_status.started()
        self.empty.set()

    async def _accept(self, listener: Listener, connections: trio.Nursery) -> None:
        # One per wake, as Trio's own loop does it, starves newcomers while everybody else is busy; but whoever takes
        # more of what is for several processes takes it from them.
        at_once = 1 if listener.shared else ACCEPTS_PER_WAKE
        while True:
            await wait_readable(listener.socket)
            try:
                for _ in range(at_once):
                    connections.start_soon(self._handle, listener.socket.accept()[0])
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                continue
            except OSError as exc:
                if exc.errno not in _NO_ROOM:
                    raise
                log.warning("no room for connections open=%d error=%s", self.connections, exc.strerror)
                await trio.sleep(NO_ROOM_S)

    async def _handle(self, accepted: socket.socket) -> None:
        """Serve one accepted connection; whatever goes wrong stays here."""
        if self.connections >= self.settings.max_connections:
            log.warning("connection refused open=%d", self.connections)
            accepted.close()
            return
        self.connections += 1
        raw = RawStream(accepted, write_stall_s=self.settings.write_stall_s, outbox=self.outbox)
        try:
            secure = raw if self.tls is None else await secured(raw, self.tls, within_s=self.settings.handshake_s)
            if secure is not None:
                await self.serve(secure)
        except Exception:
            log.exception("connection broken")
        finally:
            raw.flush()
            raw.close()
            self.connections -= 1
