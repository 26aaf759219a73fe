"""The listener on the one port: accepts connections, caps them, and hands each to who serves it.

An exception in one connection ends only that one. Closing the listeners does not touch the connections; they end with
the nursery that :func:`serve_door` was started in.
"""

import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field, frozen

from trillm.door.tls import secured
from trillm.errors import ConfigError
from trillm.wire.net import RawStream

log = logging.getLogger(__name__)

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

    listeners: list[trio.SocketListener]
    serve: Serve
    settings: DoorSettings = field(factory=DoorSettings)
    tls: ssl.SSLContext | None = None
    connections: int = field(default=0, init=False)
    empty: trio.Event = field(factory=trio.Event, init=False)
    _accepting: trio.CancelScope = field(factory=trio.CancelScope, init=False)

    def close(self) -> None:
        """Accept no more connections."""
        self._accepting.cancel()

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one accepted connection; whatever goes wrong stays here."""
        if self.connections >= self.settings.max_connections:
            log.warning("connection refused open=%d", self.connections)
            await trio.aclose_forcefully(stream)
            return
        self.connections += 1
        raw = RawStream.take_over(stream, write_stall_s=self.settings.write_stall_s)
        try:
            secure = raw if self.tls is None else await secured(raw, self.tls, within_s=self.settings.handshake_s)
            if secure is not None:
                await self.serve(secure)
        except Exception:
            log.exception("connection broken")
        finally:
            raw.close()
            self.connections -= 1

    async def run(self, *, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        """Accept until :meth:`close`, serve what was accepted to its end, then set :attr:`empty`."""
        async with trio.open_nursery() as connections:
            with self._accepting:
                await trio.serve_listeners(
                    self.handle, self.listeners, handler_nursery=connections, task_status=task_status
                )
        self.empty.set()


async def open_listeners(host: str, port: int, *, backlog: int) -> list[trio.SocketListener]:
    """Bind ``host`` and ``port`` (0: any free one).

    Raises:
        ConfigError: the address is in use, not ours, or the port needs privileges; it says what to do.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"{host}:{port}", _why_not_bound(exc)) from exc
    for listener in listeners:
        # Accepted sockets inherit it on Linux; setting it once here saves a system call per connection.
        listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
