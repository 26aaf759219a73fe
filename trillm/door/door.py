"""The listener on the one port: accepts connections, caps them, and hands each to who serves it.

An exception in one connection ends only that one. Closing the listeners does not touch the connections; they end with
the nursery that :func:`serve_door` was started in.
"""

import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import trio
from attrs import define, field, frozen
from trio.lowlevel import wait_readable

from trillm.door.tls import secured
from trillm.errors import ConfigError
from trillm.wire.net import RawStream

log = logging.getLogger(__name__)

ACCEPTS_PER_WAKE = 64
#: What the kernel may hold of what a client has yet to be sent; Trio's own choice for its streams.
UNSENT_BYTES = 16 * 1024
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
        backlog: connections the kernel holds for us.
    """

    max_connections: int = 10_000
    write_stall_s: float = 30.0
    handshake_s: float = 10.0
    backlog: int = 1024


@define(eq=False)
class Door:
    """The state of the listener.

    Args:
        listeners: bound sockets.
        serve: serves one connection to its end.
        settings: see :class:`DoorSettings`.
        tls: what to show clients, None for plain HTTP.
    """

    listeners: list[socket.socket]
    serve: Serve
    settings: DoorSettings = field(factory=DoorSettings)
    tls: ssl.SSLContext | None = None
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
                        listening.enter_context(listener)
                        accepting.start_soon(self._accept, listener, connections)
                    task_status.started()
        self.empty.set()

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        while True:
            await wait_readable(listener)
            try:
                # One per wake, as Trio's own loop does it, starves newcomers while everybody else is busy.
                for _ in range(ACCEPTS_PER_WAKE):
                    connections.start_soon(self._handle, listener.accept()[0])
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
        raw = RawStream(accepted, write_stall_s=self.settings.write_stall_s)
        try:
            secure = raw if self.tls is None else await secured(raw, self.tls, within_s=self.settings.handshake_s)
            if secure is not None:
                await self.serve(secure)
        except Exception:
            log.exception("connection broken")
        finally:
            raw.close()
            self.connections -= 1


async def open_listeners(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """Bind ``host`` and ``port`` (0: any free one) and listen; the sockets do not block.

    Raises:
        ConfigError: the address is in use, not ours, or the port needs privileges; it says what to do.
    """
    try:
        opened = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"{host}:{port}", _why_not_bound(exc)) from exc
    listeners = [socket.socket(fileno=listener.socket.detach()) for listener in opened]
    for listener in listeners:
        listener.setblocking(False)  # noqa: FBT003 - its only argument
        # Accepted sockets inherit these on Linux; setting them once here saves system calls per connection.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Or the kernel takes megabytes for a client that does not read, and nobody notices that it does not.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    return listeners


def _why_not_bound(exc: Exception) -> str:
    number = exc.errno if isinstance(exc, OSError) else None
    if number == errno.EADDRINUSE:
        return "the port is in use: stop what uses it, or choose another with --port"
    if number in (errno.EACCES, errno.EPERM):
        return "not permitted: ports below 1024 need privileges, choose another with --port"
    if number == errno.EADDRNOTAVAIL or isinstance(exc, socket.gaierror):
        return "not an address of this machine: choose another with --host"
    return f"cannot be bound: {exc}"
