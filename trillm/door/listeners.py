"""The sockets that clients connect to: bound, listening, not blocking; and the file of a Unix socket.

A Unix socket is bound under a name of its own and moved to its place when it listens. So whoever finds it there can
connect to it, nobody reaches it before its permissions stand, and one that refuses was left by a server that is gone.
"""

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from attrs import field, frozen

from trillm.errors import ConfigError

#: What the kernel may hold of what a client has yet to be sent; Trio's own choice for its streams.
UNSENT_BYTES = 16 * 1024


@frozen
class Listener:
    """One socket to accept from.

    Args:
        socket: listens, and does not block.
        shared: whether other processes accept from the very same one.
    """

    socket: socket.socket
    shared: bool = False


@frozen
class Address:
    """Where to listen: a TCP port, a Unix socket, or both.

    Args:
        host: to bind.
        port: 0: any free one; None: no TCP.
        uds: the path of a Unix socket.
        uds_mode: its permissions.
        backlog: connections that the kernel holds for us.
    """

    host: str
    port: int | None
    uds: Path | None = None
    uds_mode: int = 0o660
    backlog: int = field(default=1024, kw_only=True)


@asynccontextmanager
async def open_listeners(address: Address) -> AsyncIterator[list[Listener]]:
    """Listen for the time of the block.

    Raises:
        ConfigError: the address is in use, not ours, or not permitted; it says what to do.
    """
    with ExitStack() as opened:
        tcp = [] if address.port is None else await open_tcp(address.host, address.port, backlog=address.backlog)
        listeners = [Listener(opened.enter_context(listening)) for listening in tcp]
        if address.uds is not None:
            listeners.append(Listener(opened.enter_context(_unix_socket(address.uds, address))))
        yield listeners


async def open_tcp(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """Bind ``host`` and ``port`` (0: any free one) and listen.

    Raises:
        ConfigError: see :func:`open_listeners`.
    """
    try:
        opened = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"{host}:{port}", _why_not_bound(exc)) from exc
    return [_tuned(socket.socket(fileno=listener.socket.detach())) for listener in opened]


#: Of a TCP socket: its family, and its address as that has it.
Name = tuple[int, Any]


def open_parallel(names: Sequence[Name], *, backlog: int = 1024) -> list[socket.socket]:
    """Listen beside others that do the same (SO_REUSEPORT): the kernel deals the connections out.

    Raises:
        ConfigError: somebody listens there who does not share.
    """
    return _each(names, lambda sock, name: _listen(sock, name, backlog))


def reserve(names: Sequence[Name]) -> list[socket.socket]:
    """Return sockets that keep these addresses for :func:`open_parallel`, and get no connections themselves.

    Raises:
        ConfigError: as there.
    """
    return _each(names, _bind)


def _each(names: Sequence[Name], prepare: Callable[[socket.socket, Any], None]) -> list[socket.socket]:
    with ExitStack() as undone:
        opened = [undone.enter_context(socket.socket(family, socket.SOCK_STREAM)) for family, _ in names]
        for sock, (_, name) in zip(opened, names, strict=True):
            try:
                prepare(sock, name)
            except OSError as exc:
                raise ConfigError(f"{name[0]}:{name[1]}", _why_not_bound(exc)) from exc
        undone.pop_all()
    return opened


def _bind(sock: socket.socket, name: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as Trio does it
    sock.bind(name)


def _listen(sock: socket.socket, name: Any, backlog: int) -> None:
    _bind(sock, name)
    sock.listen(backlog)
    _tuned(sock)


def _tuned(listening: socket.socket) -> socket.socket:
    listening.setblocking(False)  # noqa: FBT003 - its only argument
    # Accepted sockets inherit these on Linux; setting them once here saves system calls per connection.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Or the kernel takes megabytes for a client that does not read, and nobody notices that it does not.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    return listening


@contextmanager
def _unix_socket(path: Path, address: Address) -> Iterator[socket.socket]:
    """Listen at ``path`` for the time of the block, and take the file away if it still is ours."""
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError("--uds", "this system has no Unix sockets; use --host and --port")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        ours = _move_in(listening, path, address)
        try:
            yield listening
        finally:
            # A successor may have taken the place while we were still finishing.
            with suppress(OSError):
                if _identity(path) == ours:
                    path.unlink()


def _move_in(listening: socket.socket, path: Path, address: Address) -> tuple[int, ...]:
    """Bind, listen, and take the place at ``path``; return what identifies the file."""
    _check_vacant(path)
    before = path.with_name(f"{path.name}.{os.getpid()}")
    listening.setblocking(False)  # noqa: FBT003 - its only argument
    try:
        before.unlink(missing_ok=True)
        listening.bind(str(before))
        try:
            before.chmod(address.uds_mode)
            listening.listen(address.backlog)
            identity = _identity(before)
            before.replace(path)
        except BaseException:
            before.unlink(missing_ok=True)
            raise
    except OSError as exc:
        reason = exc.strerror.lower() if exc.strerror else str(exc)  # a path that is too long has no errno
        raise ConfigError(str(path), f"cannot be made a Unix socket: {reason}") from exc
    return identity


def _check_vacant(path: Path) -> None:
    """Raise unless nothing is at ``path``, or a socket that nobody listens on."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return  # what is wrong with it besides being absent, binding will say
    if not is_socket:
        raise ConfigError(str(path), "exists and is no socket; move it away, or choose another path with --uds")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - its only argument
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except OSError as exc:
            if exc.errno != errno.EAGAIN:  # its backlog is full: somebody listens
                raise ConfigError(str(path), f"cannot tell whether it is in use: {exc.strerror}") from exc
    raise ConfigError(str(path), "a server listens there: stop it, or choose another path with --uds")


def _identity(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return status.st_dev, status.st_ino, status.st_mtime_ns  # the number alone is given to the next file


def _why_not_bound(exc: Exception) -> str:
    number = exc.errno if isinstance(exc, OSError) else None
    if number == errno.EADDRINUSE:
        return "the port is in use: stop what uses it, or choose another with --port"
    if number in (errno.EACCES, errno.EPERM):
        return "not permitted: ports below 1024 need privileges, choose another with --port"
    if number == errno.EADDRNOTAVAIL or isinstance(exc, socket.gaierror):
        return "not an address of this machine: choose another with --host"
    return f"cannot be bound: {exc}"
