"""A stdio MCP server as a child process: lines in, lines out, its stderr to our log, and nothing left behind.

Owns the process, its group and its three pipes. One JSON-RPC message is one line (MCP, "stdio transport"); shutting
down follows the specification: stdin is closed, then the group gets SIGTERM, then SIGKILL.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from attrs import define, field

from trillm.errors import UpstreamFailed
from trillm.mcp.groups import Groups
from trillm.registry.mcpentries import McpServer

log = logging.getLogger(__name__)

#: What is passed on of our environment. The rest may hold the keys of model servers, which are not its business.
INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
if sys.platform == "win32":
    INHERITED += ("APPDATA", "COMSPEC", "LOCALAPPDATA", "PATHEXT", "PROGRAMFILES", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP")
MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_LOGGED_CHARS = 2000
#: Lines of stderr logged in each period; a server that floods is counted, not repeated.
LOGGED_LINES, LOGGED_PERIOD_S = 200, 10.0
#: Seconds for leaving after stdin has closed, and again after SIGTERM.
LEAVE_S = 2.0
#: Seconds that an ended server's exit status and last line are waited for.
LAST_WORDS_S = 0.03
#: Seconds a message may take to be written; a server that reads nothing for so long is ended.
WRITE_S = 10.0


@define(eq=False)
class Child:
    """A running server. Made by :func:`open_child`.

    Args:
        name: for the log.
        process: with three pipes.
        said: the last line of its stderr.
    """

    name: str
    process: trio.Process
    said: str = field(default="", init=False)
    _buffer: bytearray = field(factory=bytearray, init=False, repr=False)
    _sending: trio.Lock = field(factory=trio.Lock, init=False, repr=False)

    async def send(self, message: bytes) -> None:
        """Write one message; whole, or the server is ended.

        Raises:
            trio.BrokenResourceError: it has gone, or reads nothing.
        """
        stdin = self.process.stdin
        async with self._sending:
            # Shielded: half a line would spoil the next one.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_S) as scope:
                try:
                    await stdin.send_all(message + b"\n")  # type: ignore[union-attr]  # opened with a pipe
                except trio.ClosedResourceError as exc:
                    raise trio.BrokenResourceError from exc
        if scope.cancelled_caught:
            log.warning("mcp server reads nothing server=%s", self.name)
            _signal(self.process, hard=True)
            raise trio.BrokenResourceError

    async def receive(self) -> bytes | None:
        """Return the next message, or None when there are no more."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                log.warning("mcp server sent an endless line server=%s", self.name)
                return None
            data = await self._read()
            if not data:
                await self._last_words()
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _read(self) -> bytes:
        try:
            return bytes(await self.process.stdout.receive_some())  # type: ignore[union-attr]  # opened with a pipe
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _last_words(self) -> None:
        """Wait a moment for the exit status and what is left of stderr: they tell why."""
        with trio.move_on_after(LAST_WORDS_S):
            await self.process.wait()
            await trio.sleep(LAST_WORDS_S)

    @property
    def problem(self) -> str | None:
        """Why it has ended, or None if it has not."""
        status = self.process.returncode
        return None if status is None else f"its process ended with status {status}" + (self.said and f": {self.said}")

    async def log_errors(self) -> None:
        """Log stderr, line by line, until it ends."""
        rest, left, period_ends = b"", LOGGED_LINES, trio.current_time() + LOGGED_PERIOD_S
        async for data in self.process.stderr:  # type: ignore[union-attr]  # opened with a pipe
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[:MAX_LINE_BYTES]
            if trio.current_time() > period_ends:
                left, period_ends = LOGGED_LINES, trio.current_time() + LOGGED_PERIOD_S
            for line in lines:
                left -= 1
                self._log(line, muted=left < 0, last=left == 0)
        if rest:
            self._log(rest, muted=False, last=False)

    def _log(self, line: bytes, *, muted: bool, last: bool) -> None:
        text = line.decode(errors="replace").rstrip()[:MAX_LOGGED_CHARS]
        if text:
            self.said = text
        if text and not muted:
            log.info("mcp stderr server=%s line=%r", self.name, text)
        if last:
            log.warning("mcp stderr server=%s writes too much, not logged for a while", self.name)


@asynccontextmanager
async def open_child(server: McpServer, groups: Groups) -> AsyncIterator[Child]:
    """Run the server's command for the time of the block.

    Cancelled, or done: the process and its whole group are gone before this returns, within twice ``LEAVE_S``.

    Raises:
        ConfigError: it needs an environment variable that is not set.
        UpstreamFailed: it cannot be started.
    """
    child = Child(server.name, await _start(server))
    try:
        with groups.holding(child.process.pid):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.log_errors)
                try:
                    yield child
                finally:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 4 * LEAVE_S):
                        await _end(child.process)
                    nursery.cancel_scope.cancel()
    finally:
        for pipe in (child.process.stdin, child.process.stdout, child.process.stderr):
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_S):
                await pipe.aclose()  # type: ignore[union-attr]  # opened with pipes


async def _start(server: McpServer) -> trio.Process:
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | server.variables()
    command = server.command or ""
    try:
        return await trio.lowlevel.open_process(
            [shutil.which(command, path=environment.get("PATH")) or command, *server.args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=server.cwd,
            start_new_session=True,
        )
    except OSError as exc:
        raise UpstreamFailed(f"cannot start {exc.filename or command!r}: {exc.strerror or exc}") from exc


async def _end(process: trio.Process) -> None:
    with trio.move_on_after(LEAVE_S):
        await process.stdin.aclose()  # type: ignore[union-attr]  # opened with a pipe
        await process.wait()
    # Also when it has left: what it started may not have.
    if _signal(process, hard=False):
        with trio.move_on_after(LEAVE_S):
            await process.wait()
            await _group_gone(process)
    _signal(process, hard=True)
    with trio.move_on_after(LEAVE_S):
        await process.wait()


async def _group_gone(process: trio.Process) -> None:
    while _signal(process, hard=None):  # noqa: ASYNC110 - nobody tells when a group is empty
        await trio.sleep(0.02)


def _signal(process: trio.Process, *, hard: bool | None) -> bool:
    """End the group, hard or politely, or with None only look; return whether there was any of it left."""
    if sys.platform == "win32":
        if process.returncode is None and hard is not None:
            tree = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(tree, capture_output=True, check=False)  # noqa: S603 - a number
        return process.returncode is None
    number = {True: signal.SIGKILL, False: signal.SIGTERM, None: 0}[hard]
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
        return True
    return False
