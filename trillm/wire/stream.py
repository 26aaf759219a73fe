"""A byte stream over a non-blocking socket, for the data path, and what else there is to do with streams.

``trio.SocketStream`` pays a checkpoint and two conflict checks for every call, which is most of what a small request
costs. :class:`RawStream` skips them when the kernel can act at once; every *wait* is still a Trio checkpoint, so a
cancelled task never waits.
"""

import math
import socket
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, runtime_checkable

import trio
from trio.lowlevel import notify_closing, wait_readable, wait_writable

from trillm.wire.outbox import Outbox

RECEIVE_BYTES = 64 * 1024


class RawStream(trio.abc.HalfCloseableStream):
    """A byte stream on a non-blocking socket that it owns.

    Args:
        sock: connected; closed by :meth:`aclose` and by nobody else.
        write_stall_s: seconds without the peer taking a single byte after which a send fails; None waits for ever.
        outbox: where :meth:`send_soon` leaves what it is given.
    """

    def __init__(
        self, sock: socket.socket, *, write_stall_s: float | None = None, outbox: Outbox | None = None
    ) -> None:
        sock.settimeout(0)  # not blocking
        self.socket = sock
        self.write_stall_s = write_stall_s
        self.outbox = outbox
        self._soon = b""
        #: Set when a task of the outbox is done with what did not fit.
        self._settled: trio.Event | None = None

    @classmethod
    def take_over(cls, stream: trio.SocketStream, *, write_stall_s: float | None = None) -> "RawStream":
        """Take the socket out of ``stream``, which is unusable afterwards."""
        sock = socket.socket(fileno=stream.socket.detach())
        return cls(sock, write_stall_s=write_stall_s)

    @property
    def unsent(self) -> bool:
        """Whether something that is to be sent soon has not been."""
        return bool(self._soon) or self._settled is not None

    def send_soon(self, data: bytes) -> bool:
        """Send at the end of this round, or a little later if it does not fit; return whether that can be promised.

        For what the peer is expected to answer or to follow up: whoever waits for that sees a connection that breaks.
        """
        if self.outbox is None or self.unsent:
            return False
        self._soon = data
        self.outbox.add(self.flush)
        return True

    def flush(self) -> None:
        """Send now what was to be sent soon, if it has not been."""
        data, self._soon = self._soon, b""
        if not data or self.outbox is None:
            return
        try:
            sent = self.send_now(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # as whoever reads will find out
        if sent < len(data):
            self._settled = trio.Event()
            self.outbox.wait_in_a_task(partial(self._settle, memoryview(data)[sent:], self._settled))

    async def _settle(self, rest: memoryview, settled: trio.Event) -> None:
        try:
            await self._send_rest(rest)
        except trio.BrokenResourceError:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
        except trio.ClosedResourceError:
            return
        finally:
            self._settled = None
            settled.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything. A checkpoint only where it has to wait.

        Raises:
            trio.BrokenResourceError: the peer is gone, or took nothing for ``write_stall_s``.
        """
        if self.unsent:
            self.flush()
            if self._settled is not None:
                await self._settled.wait()
        sent = self.send_now(data)
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:])

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Hand the kernel what it takes at once; return how many bytes that was.

        Raises:
            trio.BrokenResourceError: the peer is gone.
            trio.ClosedResourceError: this side is closed.
        """
        try:
            return self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            raise self._lost(exc) from exc

    async def _send_rest(self, rest: memoryview) -> None:
        while rest:
            await self.wait_send_all_might_not_block()
            rest = rest[self.send_now(rest) :]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the peer took something, at most ``write_stall_s``."""
        self._check_open()
        with trio.move_on_after(self.write_stall_s if self.write_stall_s is not None else math.inf) as scope:
            await wait_writable(self.socket)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError(f"the peer took no byte for {self.write_stall_s} s")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes and return them; ``b""`` at the end. Always a checkpoint."""
        self._check_open()
        while True:
            try:
                await wait_readable(self.socket)
                return self.socket.recv(max_bytes or RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as exc:
                raise self._lost(exc) from exc

    def receive_now(self, max_bytes: int) -> bytes | None:
        """Return what is there at once, ``b""`` at the end, None if nothing is.

        Raises:
            trio.BrokenResourceError: the peer is gone.
        """
        try:
            return self.socket.recv(max_bytes)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as exc:
            raise self._lost(exc) from exc

    def went_stale(self) -> bool:
        """Tell whether an idle connection is of no more use: closed by the peer, or with bytes nobody asked for."""
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        return True

    async def send_eof(self) -> None:
        """Close the sending half."""
        self.flush()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self._lost(exc) from exc

    def close(self) -> None:
        """Close at once. Whoever waits on it is woken with ClosedResourceError."""
        if self.socket.fileno() != -1:
            notify_closing(self.socket)
            self.socket.close()

    async def aclose(self) -> None:
        """Close, then let others run once."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self.socket.fileno() == -1:
            raise trio.ClosedResourceError("this stream was closed")

    def _lost(self, exc: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        if self.socket.fileno() == -1:
            return trio.ClosedResourceError("this stream was closed")
        return trio.BrokenResourceError(f"connection lost: {exc.strerror or exc}")


def send_soon(stream: trio.abc.SendStream, data: bytes) -> bool:
    """Send at the end of this round, see :meth:`RawStream.send_soon`; False if ``stream`` cannot."""
    return isinstance(stream, RawStream) and stream.send_soon(data)


class Replayed:
    """A stream whose first bytes were read before; otherwise the stream itself, TLS or not."""

    def __init__(self, stream: trio.abc.Stream, read: bytes) -> None:
        self._stream = stream
        self._read = read

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what was read before, then what comes."""
        if self._read:
            read, self._read = self._read, b""
            return read
        return bytes(await self._stream.receive_some(max_bytes))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@runtime_checkable
class _ClosesAtOnce(Protocol):
    """What our sockets and Trio's in-memory streams have in common."""

    def close(self) -> None: ...


def transport(stream: trio.abc.AsyncResource) -> trio.abc.AsyncResource:
    """Return what carries ``stream``: the stream under TLS, or itself."""
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


def close_now(stream: trio.abc.AsyncResource) -> None:
    """Close without goodbyes and without waiting: a TLS shutdown alert would have to wait for the peer."""
    match transport(stream):
        case trio.StapledStream() as stream:
            close_now(stream.send_stream)
            close_now(stream.receive_stream)
        case _ClosesAtOnce() as closer:
            closer.close()
        case _:
            raise TypeError(f"{type(stream).__name__} cannot be closed without waiting")
