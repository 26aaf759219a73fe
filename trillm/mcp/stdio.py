"""MCP over this process's standard input and output, one message a line, as desktop clients want it.

The client is served by a trillm that runs already, through its WebSocket: the messages are the same, so this is a pipe.
Or by what the caller gives, when none runs. Reading and writing happen in threads: that works for files, pipes and
consoles alike, on every system.
"""

import sys
from typing import BinaryIO

import trio
from attrs import define, field

from trillm.gateway.access import Caller
from trillm.mcp.dialogue import Dialogue
from trillm.mcp.jsonrpc import Channel
from trillm.mcp.session import View
from trillm.mcp.websocket import open_websocket
from trillm.wire.net import Connect
from trillm.wire.net import connect as connect_default


@define(eq=False)
class StdioChannel:
    """See :class:`trillm.mcp.jsonrpc.Channel`.

    Args:
        source: what the client writes.
        sink: what it reads. Nothing else may be written there.
    """

    source: BinaryIO = field(factory=lambda: sys.stdin.buffer)
    sink: BinaryIO = field(factory=lambda: sys.stdout.buffer)
    _lock: trio.Lock = field(factory=trio.Lock, init=False)

    async def receive(self) -> bytes | None:
        """Wait for a line that is not empty; None is the end."""
        while True:
            # Nobody can wake a thread that reads; it ends with the process.
            line = await trio.to_thread.run_sync(self.source.readline, abandon_on_cancel=True)
            if not line:
                return None
            if line.strip():
                return line

    async def send(self, message: bytes) -> None:
        """Write one line."""
        async with self._lock:
            try:
                await trio.to_thread.run_sync(self._write, message + b"\n")
            except (OSError, ValueError) as exc:
                raise trio.BrokenResourceError("nobody reads standard output") from exc

    def _write(self, line: bytes) -> None:
        self.sink.write(line)
        self.sink.flush()


async def serve_here(view: View, caller: Caller, channel: Channel | None = None) -> None:
    """Serve the client on standard input until it closes that."""
    await Dialogue(view, channel or StdioChannel(), caller).serve()


async def pipe(
    url: str, token: str | None, channel: Channel | None = None, *, connect: Connect = connect_default
) -> None:
    """Carry messages between the client on standard input and an MCP server, until either ends.

    Args:
        url: ``ws://`` or ``wss://``.
        token: shown to the server.
        channel: in the place of standard input and output.
        connect: makes the connection.

    Raises:
        UpstreamFailed: nobody is there, or it refuses.
        BrokenResourceError: the server ended the connection.
    """
    ours = channel or StdioChannel()
    headers = [] if token is None else [("authorization", f"Bearer {token}")]
    async with open_websocket(url, headers, connect=connect) as theirs, trio.open_nursery() as nursery:

        async def carry_in() -> None:
            while (message := await ours.receive()) is not None:
                await theirs.send(message if isinstance(message, bytes) else message.encode())
            nursery.cancel_scope.cancel()

        nursery.start_soon(carry_in)
        while (answer := await theirs.receive()) is not None:
            await ours.send(answer.encode())
        raise trio.BrokenResourceError("the server ended the connection")
